"""Client of Millrace: features for machine learning that are right online and offline.

::

    with millrace.Client("http://127.0.0.1:7400") as client:
        client.publish("clicks", frame)
        client.get_features("user_activity", [42], at="latest").to_dict()
        client.training_set("user_activity", spine=spine).to_pandas()

`millrace.v1` is the protocol itself, generated, for who wants to call it directly.
"""

from ._instants import Instant
from ._settings import Tls
from ._values import Counted, FeatureValue, Key, Scalar
from .client import Client
from .errors import (
    Aborted,
    Broken,
    DeadlineExceeded,
    InvalidArgument,
    InvalidInput,
    MillraceError,
    NotFound,
    NotReachable,
    NotTrusted,
    OutOfRange,
    PermissionDenied,
    ProtocolError,
    Refused,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Violation,
)
from .features import EntityFeatures, FeatureColumn, Features, ValueStatus, VersionUsed
from .publishing import FactException, Published, Verdict
from .status import Applied, Status
from .training import TrainingSet, TrainingSummary, UnknownHistoryWarning

__all__ = [
    "Aborted",
    "Applied",
    "Broken",
    "Client",
    "Counted",
    "DeadlineExceeded",
    "EntityFeatures",
    "FactException",
    "FeatureColumn",
    "FeatureValue",
    "Features",
    "Instant",
    "InvalidArgument",
    "InvalidInput",
    "Key",
    "MillraceError",
    "NotFound",
    "NotReachable",
    "NotTrusted",
    "OutOfRange",
    "PermissionDenied",
    "ProtocolError",
    "Published",
    "Refused",
    "ResourceExhausted",
    "Scalar",
    "Status",
    "Tls",
    "TrainingSet",
    "TrainingSummary",
    "Unauthenticated",
    "Unavailable",
    "UnknownHistoryWarning",
    "ValueStatus",
    "Verdict",
    "VersionUsed",
    "Violation",
]
