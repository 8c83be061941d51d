# Copyright (c) sdd_mm contributors. All rights reserved.
"""What hooks have counted, in checkpoints."""
from collections import Counter
from typing import Dict, List

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook


class EarlyStoppingState:
    """What an ``EarlyStoppingHook`` has counted.

    Args:
        hook (EarlyStoppingHook): MMEngine's hook, which keeps no state.
    """

    def __init__(self, hook: EarlyStoppingHook) -> None:
        self.hook = hook

    def state_dict(self) -> dict:
        """Its counts."""
        return dict(
            wait_count=self.hook.wait_count,
            best_score=float(self.hook.best_score))

    def load_state_dict(self, state: dict) -> None:
        """Go on counting."""
        vars(self.hook).update(state)


def hook_states(hooks: List[Hook]) -> Dict[str, dict]:
    """The state of each hook that has one."""
    return {name: hook.state_dict() for name, hook in _stateful(hooks).items()}


def load_hook_states(hooks: List[Hook], states: Dict[str, dict]) -> None:
    """Let hooks go on from their states."""
    for name, hook in _stateful(hooks).items():
        if name in states:
            hook.load_state_dict(states[name])


def _stateful(hooks: List[Hook]) -> dict:
    """Hooks with a state, by their type and their place among its like."""
    found, seen = {}, Counter()
    for hook in hooks:
        if isinstance(hook, EarlyStoppingHook):
            stateful = EarlyStoppingState(hook)
        elif hasattr(hook, 'state_dict') and hasattr(hook, 'load_state_dict'):
            stateful = hook
        else:
            continue
        name = type(hook).__name__
        found[f'{name}.{seen[name]}'] = stateful
        seen[name] += 1
    return found


def count_before_saving(hooks: List[Hook]) -> None:
    """Let early stopping hear of a validation before it is saved."""
    early = [hook for hook in hooks if isinstance(hook, EarlyStoppingHook)]
    saving = [hook for hook in hooks if isinstance(hook, CheckpointHook)]
    for hook in early if saving else ():
        hooks.remove(hook)
        hooks.insert(hooks.index(saving[0]), hook)


def has_stopped_early(hooks: List[Hook]) -> bool:
    """Whether early stopping had ended the run that is resumed."""
    return any(hook.wait_count >= hook.patience for hook in hooks
               if isinstance(hook, EarlyStoppingHook))
