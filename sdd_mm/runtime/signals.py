# Copyright (c) sdd_mm contributors. All rights reserved.
"""Signals that ask a run to save and end."""
import os
import signal
import threading
from typing import Optional

from mmengine.dist import all_gather_object, get_dist_info


class StopSignals:
    """Hears of SIGTERM and of the first SIGINT, between start and stop."""

    def __init__(self) -> None:
        self.heard: Optional[signal.Signals] = None
        self.agreed = False
        self._before = {}

    def start(self) -> None:
        """Listen, where Python lets us: in the main thread."""
        self.heard, self.agreed = None, False
        if threading.current_thread() is not threading.main_thread():
            return
        pid = os.getpid()

        def hear(number, frame) -> None:
            if os.getpid() != pid:
                return  # a dataloader's worker, which its process ends
            if self.heard is not None:
                if number == signal.SIGTERM:
                    return  # launchers and schedulers repeat it
                self.stop()
                signal.raise_signal(number)
            self.heard = signal.Signals(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            # a shell lets what it runs in the background ignore Ctrl-C
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, hear)

    def stop(self) -> None:
        """Give signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def asked(self) -> bool:
        """Whether a signal came, to any process; all of them must ask."""
        if get_dist_info()[1] > 1 and not self.agreed:
            found = max(all_gather_object(self.heard or 0))
            self.heard = signal.Signals(found) if found else None
            self.agreed = bool(found)
        return self.heard is not None
