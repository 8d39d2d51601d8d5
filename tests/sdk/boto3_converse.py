"""boto3 with its default clients, configured by environment variables. Prints what it got as JSON."""

import json
import os

import boto3

model = os.environ["CAPROCK_MODEL"]
question = {
    "messages": [{"role": "user", "content": [{"text": "What is gravity?"}]}],
    "inferenceConfig": {"maxTokens": 48, "temperature": 0.0},
}
results = []


def report(kind, reply, text, usage):
    results.append(
        {
            "kind": kind,
            "request_id": reply["ResponseMetadata"]["HTTPHeaders"]["x-request-id"],
            "text": text,
            "input_tokens": usage["inputTokens"],
            "output_tokens": usage["outputTokens"],
        }
    )
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]


def ask(kind, client, model):
    reply = client.converse(modelId=model, **question)
    assert reply["stopReason"] in ("end_turn", "max_tokens"), reply["stopReason"]
    report(kind, reply, reply["output"]["message"]["content"][0]["text"], reply["usage"])


def ask_streamed(kind, client, model):
    reply = client.converse_stream(modelId=model, **question)
    text, usage, stop = "", None, None
    for event in reply["stream"]:
        if "contentBlockDelta" in event:
            text += event["contentBlockDelta"]["delta"]["text"]
        elif "messageStop" in event:
            stop = event["messageStop"]["stopReason"]
        elif "metadata" in event:
            usage = event["metadata"]["usage"]
    assert stop in ("end_turn", "max_tokens"), stop
    report(kind, reply, text, usage)


# Signed with the project's access key, over plain HTTP.
signed = boto3.client("bedrock-runtime")
ask("signed", signed, model)
ask_streamed("signed, streamed", signed, model)
ask("signed, stand-in", signed, "amazon.nova-lite-v1:0")

models = boto3.client("bedrock").list_foundation_models()["modelSummaries"]
assert "amazon.nova-lite-v1:0" in [summary["modelId"] for summary in models]

# With an API key as a bearer token, which boto3 sends over TLS only.
os.environ["AWS_BEARER_TOKEN_BEDROCK"] = os.environ["CAPROCK_API_KEY"]
bearer = boto3.client("bedrock-runtime", endpoint_url=os.environ["CAPROCK_TLS_URL"])
ask("bearer", bearer, model)
ask_streamed("bearer, streamed", bearer, model)

print(json.dumps(results))
