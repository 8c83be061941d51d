# Copyright (c) sdd_mm contributors. All rights reserved.
from copy import deepcopy
from typing import Dict, Optional, Set, Tuple

from mmengine.model import BaseModel
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..losses.base import RecordLoss, WeightedLoss
from ..networks import head_of, members_of
from ..recorders import (EnsembleRecorder, FeatureHeadError,
                         FeatureHeadRecorder, LogitsRecorder,
                         StageMapsRecorder, TargetRecorder)
from ..recorders.find_head import check_head

HEAD, TARGET = 'feature_head', 'target'
NAMED = (EnsembleRecorder, FeatureHeadRecorder, LogitsRecorder)
RECORDERS = {HEAD: FeatureHeadRecorder, TARGET: TargetRecorder}
# what every RecordLoss is called with, and where it comes from
RECORDS = dict(
    student=dict(recorder=HEAD, from_student=True),
    teacher=dict(recorder=HEAD, from_student=False),
    target=dict(recorder=TARGET, from_student=True))

LOGITS_ALONE = ('. KD, DKD and NKD of whole images need logits alone: '
                "type='LogitLoss' distills any classifier")


@MODELS.register_module()
class SDDDistiller(ConfigurableDistiller):
    """A ``ConfigurableDistiller`` that fills in what SDD needs.

    ``ScaleDecoupledLoss`` and ``LogitLoss`` need the feature heads of student
    and teacher and the target. Recorders named ``feature_head`` and
    ``target``, and mappings to them, are added where the config has none;
    what the config gives is never replaced. Where no loss asks for cells and
    a network has no map, its logits are recorded instead. Any other MMRazor
    loss may stand beside them, with its own recorders, connectors and mapping.

    Args:
        student_recorders (dict, optional): As in ``ConfigurableDistiller``.
        teacher_recorders (dict, optional): As in ``ConfigurableDistiller``.
        distill_losses (dict, optional): As in ``ConfigurableDistiller``.
        loss_forward_mappings (dict, optional): As in
            ``ConfigurableDistiller``.
        **kwargs: The other arguments of ``ConfigurableDistiller``.

    Raises:
        ValueError: If a loss has no mapping, or no ``loss`` in its name: it
            would never be computed, or never trained.
        FeatureHeadError: If student or teacher is not linear after pooling.

    Examples:
        >>> # in a config
        >>> distiller = dict(
        ...     type='SDDDistiller',
        ...     distill_losses=dict(
        ...         loss_sdd=dict(
        ...             type='ScaleDecoupledLoss',
        ...             criterion=dict(type='KDCriterion'))))
    """

    def __init__(self,
                 student_recorders: Optional[Dict[str, Dict]] = None,
                 teacher_recorders: Optional[Dict[str, Dict]] = None,
                 distill_losses: Optional[Dict[str, Dict]] = None,
                 loss_forward_mappings: Optional[Dict[str, Dict]] = None,
                 **kwargs) -> None:
        super().__init__(
            student_recorders=student_recorders,
            teacher_recorders=teacher_recorders,
            distill_losses=distill_losses,
            **kwargs)
        mappings = deepcopy(dict(loss_forward_mappings or {}))
        for name, loss in self.distill_losses.items():
            if 'loss' not in name:
                raise ValueError(
                    f'distill loss {name!r} ({type(loss).__name__}) would be '
                    'logged but not trained, since MMEngine adds up what has '
                    '`loss` in its name: rename it in '
                    'model.distiller.distill_losses')
            if isinstance(loss, RecordLoss):
                mappings[name] = {**RECORDS, **mappings.get(name, {})}
            elif name not in mappings:
                raise ValueError(
                    f'distill loss {name!r} ({type(loss).__name__}) has no '
                    'mapping, so it would never be computed: add it to '
                    'model.distiller.loss_forward_mappings')
        self._added: Set[Tuple[str, str]] = set()
        for mapping in mappings.values():
            for record in mapping.values():
                self._add_recorder(**record)
        self._check_loss_forward_mappings(self.distill_losses, mappings,
                                          self.student_recorders,
                                          self.teacher_recorders)
        self.loss_forward_mappings = mappings

    def _add_recorder(self, recorder: str, from_student: bool,
                      **kwargs) -> None:
        """Add the recorder that a mapping names, if it is one of ours."""
        manager = (
            self.student_recorders if from_student else self.teacher_recorders)
        if recorder not in manager.recorders and recorder in RECORDERS:
            manager.recorders[recorder] = RECORDERS[recorder]()
            self._added.add(
                ('student' if from_student else 'teacher', recorder))

    def prepare_from_student(self, model: BaseModel) -> None:
        """Initialize the student's recorders."""
        self._prepare('student', model)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Initialize the teacher's recorders."""
        self._prepare('teacher', model)

    def _prepare(self, role: str, model: nn.Module) -> None:
        recorders = getattr(self, f'{role}_recorders').recorders
        added = (role, HEAD) in self._added
        if len(members_of(model)) > 1:
            self._prepare_ensemble(model, recorders, added)
        elif added and not self._asks_cells() and isinstance(
                recorders[HEAD], FeatureHeadRecorder):
            try:
                recorders[HEAD].find(model)
            except FeatureHeadError:
                recorders[HEAD] = LogitsRecorder()
        for recorder in recorders.values():
            if isinstance(recorder, NAMED):
                recorder.role = role
        try:
            getattr(self, f'{role}_recorders').initialize(model)
        except FeatureHeadError as error:
            advice = LOGITS_ALONE if added and self._asks_cells() else ''
            raise FeatureHeadError(
                f'{role}: {error}{advice} (config key model.distiller.'
                f'{role}_recorders.{HEAD})') from error

    def _prepare_ensemble(self, model: nn.Module, recorders: dict,
                          added: bool) -> None:
        """Several teachers have one thing in common, their logits."""
        for member in members_of(model):
            if head_of(member) is not None:
                check_head(member)  # no margin, no several labels
        if added:
            recorders[HEAD] = (
                EnsembleRecorder() if self._asks_cells() else LogitsRecorder())
        for name, recorder in recorders.items():
            if not isinstance(recorder, (EnsembleRecorder, LogitsRecorder)):
                raise FeatureHeadError(
                    f'a TeacherEnsemble is the mean of logits, and '
                    f'{type(recorder).__name__} records a single network: '
                    "use ScaleDecoupledLoss or LogitLoss, and type='Ensemble' "
                    f'for model.distiller.teacher_recorders.{name}')

    def _asks_cells(self) -> bool:
        """Whether a loss compares more than logits of whole images."""
        return any(
            getattr(self.distill_losses[name], 'grid', None) is not None
            or not isinstance(self.distill_losses[name], RecordLoss)
            for name, mapping in self.loss_forward_mappings.items()
            if any(place['recorder'] == HEAD for place in mapping.values()))

    @property
    def teacher_head(self) -> Optional[FeatureHeadRecorder]:
        """The recorder of the teacher's feature head, if a loss needs it."""
        return self.teacher_recorders.recorders.get(HEAD)

    @property
    def listens_elsewhere(self) -> bool:
        """Whether more of the teacher is recorded than its feature head."""
        others = set(self.teacher_recorders.recorders) - {HEAD}
        return bool(others) or bool(self.deliveries.deliveries)

    def teacher_record(self):
        """The teacher's feature head of the last forward pass, if any."""
        head = self.teacher_head
        return None if head is None else head.get_record_data()

    def stop_teacher_at_map(self) -> None:
        """Let the teacher's forward pass end at the last map that is needed.

        Whoever runs the teacher then has to catch ``MapReached``. A tail that
        is not linear needs the teacher's own logits, and other recorders and
        deliveries may listen to anything: then it runs to its end.
        """
        head = self.teacher_head
        if head is not None:
            head.stop_at_map = type(head) is FeatureHeadRecorder and not (
                self.listens_elsewhere)
        recorders = self.teacher_recorders.recorders
        if len(recorders) == 1 and not self.deliveries.deliveries:
            (name, recorder), = recorders.items()
            if isinstance(recorder, StageMapsRecorder):
                recorder.stop_after = self._last_map(name, recorder.count)

    def _last_map(self, name: str, count: int) -> int:
        """The last of the teacher's maps that a mapping names."""
        places = [
            place.get('data_idx')
            for mapping in self.loss_forward_mappings.values()
            for place in mapping.values()
            if place['recorder'] == name and not place['from_student']
        ]
        if None in places or min(places, default=-1) < 0:
            return count - 1
        return max(places)

    def compute_distill_losses(self, teacher=None) -> Dict[str, Tensor]:
        """Compute the losses, then forget the records.

        A kept record would hold a batch's activations through validation, and
        a model with one cannot be deep-copied.

        Args:
            teacher (FeatureHead | RegionHead | LocalLogits, optional): The
                teacher's record. Defaults to None, which takes what its
                recorder has.
        """

        def find(recorder: str, from_student: bool, **kwargs):
            if (recorder, from_student) == (
                    HEAD, False) and not (kwargs or teacher is None):
                return teacher
            return self.get_record(recorder, from_student, **kwargs)

        def compute(loss: nn.Module, mapping: dict) -> Tensor:
            records = {key: find(**place) for key, place in mapping.items()}
            if not isinstance(loss, WeightedLoss):
                # MMRazor's losses cannot view maps that are channels last
                records = {
                    key: one.contiguous() if isinstance(one, Tensor) else one
                    for key, one in records.items()
                }
            return loss(**records)

        try:
            return {
                name: compute(self.distill_losses[name], mapping)
                for name, mapping in self.loss_forward_mappings.items()
            }
        finally:
            self.reset_records()

    def reset_records(self) -> None:
        """Forget what was recorded in the last forward pass."""
        for manager in (self.student_recorders, self.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()
