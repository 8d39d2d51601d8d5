"""What Schemathesis has to be told about our descriptions."""

import json
import os
from itertools import count

import requests
import schemathesis

GIVEN = json.loads(os.environ["CAPROCK_TEST_THINGS"])
# By operation and parameter of its path: the id of a thing that is there, or, where the operation ends the thing, the call
# that makes another.
THINGS = GIVEN["in_paths"]
# By field of bodies: the id of a thing that is there.
FIELDS = GIVEN["in_bodies"]
# Stands for a thing that is made when the call is sent.
FRESH = "made-for-this-call"
NUMBERS = count(1)
# What the whole run stands on: its own token, and the things above. Ids are also taken from replies, lists included.
OWN = "adm_" + os.environ.get("CAPROCK_ADMIN_TOKEN", "_").split("_")[1]
KEPT = {thing for things in THINGS.values() for thing in things.values() if isinstance(thing, str)} | {OWN, FRESH}


@schemathesis.hook
def before_load_schema(context, raw_schema):
    for item in raw_schema["paths"].values():
        for operation in item.values():
            things = THINGS.get(operation["operationId"], {})
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in things:
                    name_a_thing(parameter, things[parameter["name"]])
            for response in operation["responses"].values():
                media = response.get("content", {}).get("text/event-stream")
                if media:
                    media["schema"] = event_of(media["schema"])
    for schema in raw_schema["components"]["schemas"].values():
        if schema.get("additionalProperties") is False:  # what is sent; replies may grow
            for field in FIELDS.keys() & schema.get("properties", {}).keys():
                name_in_body(schema, field, FIELDS[field])


def name_in_body(schema, field, value):
    schema["properties"][field] = {"anyOf": [{"const": value}, schema["properties"][field]]}
    for example in schema.get("examples", []) + [schema.get("example", {})]:
        if field in example:
            example[field] = value


def name_a_thing(parameter, thing):
    """The ids in the description's examples are nobody's. What an operation creates is found without this."""
    value = thing if isinstance(thing, str) else FRESH
    parameter["example"] = value
    parameter["schema"] = {"anyOf": [{"const": value}, parameter["schema"]]}


@schemathesis.hook
def before_call(context, case, **kwargs):
    things = THINGS.get(case.operation.definition.raw["operationId"], {})
    parameters = case.path_parameters or {}
    for name, thing in things.items():
        value = parameters.get(name)
        if isinstance(thing, dict) and isinstance(value, str) and value in KEPT:
            parameters[name] = make(**thing)
        elif value == OWN:
            parameters[name] = thing


def make(method, path, body):
    """Another thing, by a name that none had before. Its id."""
    number = str(next(NUMBERS))
    body = json.loads(json.dumps(body).replace("{n}", number))
    url = os.environ["CAPROCK_ADMIN_URL"] + path.replace("{n}", number)
    token = {"Authorization": "Bearer " + os.environ["CAPROCK_ADMIN_TOKEN"]}
    reply = requests.request(method, url, json=body, headers=token, timeout=30)
    reply.raise_for_status()
    return reply.json()["id"]


def event_of(schema):
    """OpenAPI 3.1 has no word for "each event's data is this": like everybody, we put the data's schema there. Here it
    is read as the schema of a whole event, so it is wrapped into one."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    return {"type": "object", "required": ["data"], "properties": {"data": {"anyOf": [{"const": "[DONE]"}, data]}}}
