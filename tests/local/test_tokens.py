"""What stands for IAM refuses each token that IAM would refuse, for its own reason."""

import datetime

import pytest
import tokens
from tokens import Refused, signature, signer_of

HOST, USER, REGION = "localhost:5433", "Report'er & Söhne", "us-west-2"
NOW = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.timezone.utc)


def made(user=USER, host=HOST, region=REGION, age=0, lasts=900, service="rds-db", **other):
    """A token, signed for what it says."""
    began = NOW - datetime.timedelta(seconds=age)
    query = {
        "Action": "connect", "DBUser": user, "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"local.verify-restore/{began:%Y%m%d}/{region}/{service}/aws4_request",
        "X-Amz-Date": f"{began:%Y%m%dT%H%M%SZ}", "X-Amz-Expires": str(lasts), "X-Amz-SignedHeaders": "host", **other,
    }  # fmt: skip
    query["X-Amz-Signature"] = signature(host, query, f"{began:%Y%m%d}", region)
    return f"{host}/?" + "&".join(f"{name}={tokens.quote(value, safe='')}" for name, value in query.items())


def test_a_good_token_tells_who_signed_it():
    for token in (made(), made(age=899), made(age=-299), made(**{"X-Amz-Security-Token": "a/b+c="})):
        assert signer_of(token, USER, HOST, REGION, NOW) == "local.verify-restore"


def test_the_published_example():
    """The SDK's own example, for key `akid` with secret `secret`."""
    example = (
        "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=peccy&X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=akid%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request&X-Amz-Date=20240826T220000Z&X-Amz-Expires=900"
        "&X-Amz-SignedHeaders=host&X-Amz-Signature=dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89"
    )
    then = datetime.datetime(2024, 8, 26, 22, 1, tzinfo=datetime.timezone.utc)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "SECRET_KEY", "secret")
        assert signer_of(example, "peccy", "prod-instance.us-east-1.rds.amazonaws.com:3306", "us-east-1", then) == "akid"


REFUSED = {
    "no token": ("Production-App-1", "it is no token"),
    "another user": (made(user="other"), "it is for other in us-west-2"),
    "another port": (made(host="localhost:5434"), "it is for localhost:5434"),
    "another host": (made(host="db:5433"), "it is for db:5433"),
    "another Region": (made(region="us-east-1"), "in us-east-1, not"),
    "another service": (made(service="rds"), "it is signed for something else"),
    "another action": (made(Action="delete"), "it is signed for something else"),
    "too old": (made(age=900), "it is 900 s old"),
    "of the future": (made(age=-301), "it is -301 s old"),
    "for too long": (made(lasts=901), "good for 901 s"),
    "for ever": (made(lasts=-1), "good for -1 s"),
    "more": (made(Extra="x"), "it holds"),
    "twice": (made() + "&DBUser=other", "it says something twice"),
    "another signature": (made()[:-1] + ("0" if made()[-1] != "0" else "1"), "its signature is wrong"),
    "changed afterwards": (made(lasts=800).replace("Expires=800", "Expires=900"), "its signature is wrong"),
    "not signed": (made().partition("&X-Amz-Signature")[0], "its signature is wrong"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_all_else_is_refused(what):
    token, why = REFUSED[what]
    with pytest.raises(Refused, match=why):
        signer_of(token, USER, HOST, REGION, NOW)
