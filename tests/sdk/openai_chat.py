"""The openai SDK, configured by its own environment variables. Prints what it got as JSON."""

import json
import os

from openai import OpenAI

client = OpenAI(max_retries=0)
question = [{"role": "user", "content": "What is gravity?"}]
wanted = {"model": os.environ["CAPROCK_MODEL"], "messages": question, "max_tokens": 48, "temperature": 0}
results = []


def report(kind, reply, text, usage):
    results.append(
        {
            "kind": kind,
            "request_id": reply.headers["x-request-id"],
            "text": text,
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
        }
    )
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


reply = client.chat.completions.with_raw_response.create(**wanted)
answer = reply.parse()
report("whole", reply, answer.choices[0].message.content, answer.usage)

for model in (os.environ["CAPROCK_MODEL"], "amazon.nova-lite-v1:0"):
    wanted["model"] = model
    reply = client.chat.completions.with_raw_response.create(
        **wanted, stream=True, stream_options={"include_usage": True}
    )
    text, usage, finish = "", None, None
    for chunk in reply.parse():
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        usage = chunk.usage or usage
    assert finish in ("stop", "length"), finish
    report("streamed", reply, text, usage)

assert os.environ["CAPROCK_MODEL"] in [model.id for model in client.models.list()]
print(json.dumps(results))
