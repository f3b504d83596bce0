"""IAM's decision, for the policies that we write: is this action allowed on this resource under these conditions?

Knows what our policies use and refuses the rest, so that nothing is taken for allowed by accident.
"""

import functools
import re


def listed(value):
    return value if isinstance(value, list) else [value]


@functools.cache
def compiled(pattern):
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern))


def matches(pattern, text):
    """IAM's wildcards; everything else means itself."""
    return compiled(pattern).fullmatch(text) is not None


def holds(condition, context):
    return all(operator_holds(operator, name, listed(values), context) for operator, tests in (condition or {}).items() for name, values in tests.items())


def operator_holds(operator, name, values, context):
    asked = context.get(name)
    if operator == "ForAllValues:StringEquals":
        return all(one in values for one in (asked or "").split(",") if one)
    if operator in ("StringEquals", "ArnEquals"):
        return asked in values
    if operator in ("StringLike", "ArnLike"):
        return asked is not None and any(matches(value, asked) for value in values)
    if operator == "Bool":
        return asked is not None and asked in [str(value).lower() for value in values]
    raise NotImplementedError(f"{operator} is not known here")


def applies(statement, action, resource, context):
    unknown = set(statement) - {"Sid", "Effect", "Action", "NotAction", "Resource", "Condition"}
    if unknown:
        raise NotImplementedError(f"{unknown} is not known here")
    # Actions have no case.
    if "Action" in statement:
        is_meant = any(matches(pattern.lower(), action.lower()) for pattern in listed(statement["Action"]))
    else:
        is_meant = not any(matches(pattern.lower(), action.lower()) for pattern in listed(statement["NotAction"]))
    return is_meant and any(matches(pattern, resource) for pattern in listed(statement["Resource"])) and holds(statement.get("Condition"), context)


def allowed(documents, action, resource, context):
    statements = [statement for document in documents for statement in document["Statement"]]
    deciding = [statement["Effect"] for statement in statements if applies(statement, action, resource, context)]
    return "Allow" in deciding and "Deny" not in deciding


def rights(document):
    """Every single right of a document: (statement, action, resource)."""
    for statement in document["Statement"]:
        if statement["Effect"] == "Allow":
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield statement, action, resource
