"""The calls of one step in Python, as people write a function: clients made while the module is loaded, one call after the other.

It decides nothing, checks nothing and logs nothing: less than the step does, never more. cold.py writes the file that it reads.
"""

import json
import os

import boto3
from botocore.exceptions import ClientError

with open(os.environ["WORK_FILE"]) as file:
    WORK = json.load(file)
CLIENTS = {name: boto3.client(**arguments) for name, arguments in WORK["clients"].items()}
if WORK["logins"]:
    import psycopg


def handle(event, context):
    for client, method, arguments in WORK["calls"]:
        try:
            getattr(CLIENTS[client], method)(**arguments)
        except ClientError as refused:
            # "There is no such thing" is an answer that the step asked for. What was not recorded is answered without a code.
            if "NotFound" not in refused.response["Error"]["Code"]:
                raise
    for login in WORK["logins"]:
        with psycopg.connect(**login) as connection:
            connection.execute("SELECT 1")
    return {"outcome": "done"}
