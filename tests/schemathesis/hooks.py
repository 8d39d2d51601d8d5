"""What Schemathesis has to be told about our descriptions."""

import json
import os

import schemathesis

# Ids of things that are there, by the name of the path parameter that takes them.
THINGS = json.loads(os.environ.get("CAPROCK_TEST_THINGS", "{}"))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    for item in raw_schema["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in THINGS:
                    name_a_thing(parameter, THINGS[parameter["name"]])
            for response in operation["responses"].values():
                media = response.get("content", {}).get("text/event-stream")
                if media:
                    media["schema"] = event_of(media["schema"])


def name_a_thing(parameter, value):
    """The ids in the description's examples are nobody's. What an operation creates is found without this."""
    parameter["example"] = value
    parameter["schema"] = {"anyOf": [{"const": value}, parameter["schema"]]}


def event_of(schema):
    """OpenAPI 3.1 has no word for "each event's data is this": like everybody, we put the data's schema there. Here it
    is read as the schema of a whole event, so it is wrapped into one."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    return {"type": "object", "required": ["data"], "properties": {"data": {"anyOf": [{"const": "[DONE]"}, data]}}}
