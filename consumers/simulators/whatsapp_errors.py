"""The errors of Meta's Cloud API, in its own envelope."""

import secrets

from aiohttp import web

ERRORS: dict[int, tuple[int, str, str]] = {
    0: (401, "AuthException", "We were unable to authenticate the app user"),
    1: (400, "API Unknown", "Invalid request or possible server error"),
    2: (503, "Service temporarily unavailable", "Temporary due to downtime or overload"),
    3: (500, "API Method", "Capability or permissions issue"),
    4: (429, "Application request limit reached", "The app has reached its API call rate limit"),
    10: (403, "Application does not have permission for this action", "Permission not granted or removed"),
    33: (400, "Parameter value is not valid", "The business phone number has been deleted"),
    100: (400, "Invalid parameter", "One or more parameters are unsupported or misspelled"),
    190: (401, "Invalid OAuth access token - Cannot parse access token", "Access token has expired"),
    200: (403, "API Permission", "Permission is either not granted or has been removed"),
    299: (403, "API Permission", "Permission is either not granted or has been removed"),
    368: (403, "Temporarily blocked for policies violations", "The account violated a platform policy"),
    80007: (429, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit"),
    130429: (429, "Rate limit hit", "Cloud API message throughput has been reached"),
    130472: (400, "User's number is part of an experiment", "Message was not sent as part of an experiment"),
    130497: (403, "Business account is restricted from messaging users in this country", "Country restriction"),
    131000: (500, "Something went wrong", "Message failed to send due to an unknown error"),
    131005: (403, "Access denied", "Permission is either not granted or has been removed"),
    131008: (400, "Required parameter is missing", "The request is missing a required parameter"),
    131009: (400, "Parameter value is not valid", "One or more parameter values are invalid"),
    131016: (500, "Service unavailable", "A service is temporarily unavailable"),
    131021: (400, "Recipient cannot be sender", "Sender and recipient phone number is the same"),
    131026: (400, "Message undeliverable", "Unable to deliver message"),
    131030: (400, "Recipient phone number not in allowed list", "Add the number to the allowed list"),
    131031: (403, "Business Account locked", "The account was restricted or disabled for a policy violation"),
    131037: (400, "Display name approval is needed", "The display name of the number is not approved"),
    131042: (400, "Business eligibility payment issue", "There was an error related to your payment method"),
    131045: (500, "Incorrect certificate", "Message failed to send due to a phone number registration error"),
    131047: (400, "Re-engagement message", "More than 24 hours have passed since the recipient last replied"),
    131048: (429, "Spam rate limit hit", "Too many previous messages were blocked or flagged as spam"),
    131049: (400, "Meta chose not to deliver", "Not delivered to maintain healthy ecosystem engagement"),
    131050: (
        400,
        "Unable to deliver the message",
        "The recipient stopped marketing messages from this business",
    ),
    131051: (400, "Unsupported message type", "Message type is not supported"),
    131052: (400, "Media download error", "Unable to download the media of the message"),
    131053: (400, "Media upload error", "Unable to upload the media used in the message"),
    131056: (
        429,
        "(Business Account, Consumer Account) pair rate limit hit",
        "Too many messages to one number",
    ),
    131057: (500, "Account in maintenance mode", "The business account is in maintenance mode"),
    131062: (400, "Business-scoped user ID not supported", "This kind of message needs a phone number"),
    131063: (400, "Marketing messages are disabled", "The template is a marketing one"),
    131064: (429, "Template misclassification limit", "Limited because templates were misclassified"),
    132000: (400, "Number of parameters does not match the expected number of params", "body"),
    132001: (
        404,
        "Template name does not exist in the translation",
        "Template name does not exist in language",
    ),
    132005: (400, "Translated text too long", "The translated text is too long"),
    132007: (400, "Template format character policy violated", "The template's content violates a policy"),
    132008: (400, "Parameter format mismatch", "A variable has a wrong format"),
    132012: (400, "Parameter format does not match", "A variable has another format than the template"),
    132015: (400, "Template is Paused", "Template is paused due to low quality"),
    132016: (400, "Template is Disabled", "Template has been paused too many times and is now disabled"),
    132018: (
        400,
        "Template parameter invalid",
        "Cannot have new-line, tab, or more than 4 consecutive spaces",
    ),
    132068: (400, "Flow is blocked", "The flow is in a blocked state"),
    132069: (400, "Flow is throttled", "The flow is in a throttled state"),
    133004: (503, "Server temporarily unavailable", "The server is temporarily unavailable"),
    133010: (
        400,
        "Phone number not registered",
        "Phone number not registered on the WhatsApp Business Platform",
    ),
    133016: (400, "Account register deregister rate limit exceeded", "Registered too often"),
    135000: (400, "Generic user error", "Message failed to send because of an unknown error with the request"),
    137000: (400, "Identity key hash mismatch", "The identity of the recipient is another one"),
}
"""Code → HTTP status, title, details. developers.facebook.com … /support/error-codes, 15 May 2026."""


class Wrong(Exception):
    """This call gets one of Meta's errors."""

    def __init__(self, code: int, details: str | None = None, subcode: int | None = None) -> None:
        super().__init__(f"the caller gets error {code}")
        self.code, self.details, self.subcode = code, details, subcode


def answer(wrong: Wrong, throttle_http: int = 429) -> web.Response:
    """As Meta says it; a throttle with the HTTP status that is asked for."""
    status, title, details = ERRORS.get(wrong.code, (400, "Unknown", "Unknown"))
    error: dict[str, object] = {
        "message": f"(#{wrong.code}) {title}",
        "type": "OAuthException",
        "code": wrong.code,
        "error_data": {"messaging_product": "whatsapp", "details": wrong.details or details},
        "fbtrace_id": "A" + secrets.token_urlsafe(12),
    }
    if wrong.subcode is not None:
        error["error_subcode"] = wrong.subcode
    return web.json_response({"error": error}, status=throttle_http if status == 429 else status)
