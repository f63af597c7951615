"""Botocore's service model of Amazon Connect: the shapes and paths that the stand-in has to keep to."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ServiceModel
from botocore.validate import ParamValidator


@cache
def service_model() -> ServiceModel:
    """Give the service model of the botocore that is installed; read from disk once."""
    return botocore.session.get_session().get_service_model("connect")


def faults_in(operation: str, params: Mapping[str, Any]) -> str:
    """Say what a boto3 client would refuse in the parameters before sending; empty if nothing."""
    shape = service_model().operation_model(operation).input_shape
    return "" if shape is None else ParamValidator().validate(dict(params), shape).generate_report()
