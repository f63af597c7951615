"""The errors that the stand-in answers with: Amazon Connect's codes and HTTP statuses, and nothing of our own.

ConnectError    every refusal of an API call, by its code
"""

STATUS_OF_CODE = {
    "InvalidParameterException": 400,
    "InvalidRequestException": 400,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "DuplicateResourceException": 409,
    "ThrottlingException": 429,
    "InternalServiceException": 500,
}
"""HTTP status of each code. Source: the error shapes of botocore's service model "connect"."""


class ConnectError(Exception):
    """A refusal as Amazon Connect would give it; nothing was changed.

    Attributes:
        code: the error's name, a key of `STATUS_OF_CODE`.
        status: the HTTP status that goes with it.
        message: what AWS would say in `message`.
    """

    def __init__(self, code: str, message: str) -> None:
        """Take the code's HTTP status from the table; an unknown code is a KeyError."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.status = STATUS_OF_CODE[code]
        self.message = message


def not_found(what: str, identifier: str) -> ConnectError:
    """Say that `what` with this identifier does not exist."""
    return ConnectError("ResourceNotFoundException", f"{what} not found: {identifier}")


def invalid_parameter(message: str) -> ConnectError:
    """Say that a parameter has a value outside its bounds."""
    return ConnectError("InvalidParameterException", message)


def invalid_request(message: str) -> ConnectError:
    """Say that the request does not fit the state of things."""
    return ConnectError("InvalidRequestException", message)
