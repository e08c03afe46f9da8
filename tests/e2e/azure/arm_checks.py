"""Requests of all sorts, made from the front's own OpenAPI document by schemathesis, and what every answer has to be.

Run by itself with a seed, a number of examples for each operation and perhaps some of schemathesis' phases, in a shell that
`migpool azure env` has set up, this runs schemathesis; schemathesis then loads this file again, for the checks and hooks below.
"""

import os
import subprocess
import sys
import tempfile
import zlib

import schemathesis

# Names that several requests have in common, so that what one makes another finds. Every other name is made up.
NAMES = {
    "group": ["myResourceGroup", "another"],
    "cluster": ["myAKSCluster", "another"],
    "pool": ["nodepool1", "mignode", "another"],
    "deployment": ["first", "second"],
    "pod": ["first", "second"],
    "namespace": ["Microsoft.ContainerService", "microsoft.features"],
    "feature": ["ManagedGPUExperiencePreview"],
    "location": ["southcentralus"],
}

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "errors_are_in_arms_shape",
    "requests_have_their_ids",
]


def is_only(value, needed, possible=()):
    return isinstance(value, dict) and set(needed) <= value.keys() <= {*needed, *possible}


@schemathesis.check
def errors_are_in_arms_shape(ctx, response, case):
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    body = response.json()
    if is_only(body, ["error"]):
        error = body["error"]
        assert is_only(error, ["code", "message"], ["target", "details"]), f"not ARM's shape: {body}"
    else:
        error = body
        assert is_only(error, ["code", "message", "details", "subcode"], ["target"]), f"not ARM's shape: {body}"
    assert error["code"].isalnum(), f"not a code: {error['code']}"
    assert error["message"].strip(), "an error without a message"
    header = response.headers.get("x-ms-error-code")
    assert header == [error["code"]], f"x-ms-error-code is {header}, and the code {error['code']}"


@schemathesis.check
def requests_have_their_ids(ctx, response, case):
    for header in ["x-ms-request-id", "x-ms-correlation-request-id"]:
        assert response.headers.get(header), f"no {header}"


def chosen(text, among):
    """One of these, or for some texts the text itself: always the same for the same text."""
    place = zlib.crc32(text.encode("utf-8", "replace")) % (len(among) * 4)
    return among[place // 3] if place // 3 < len(among) else text


def with_few_nodes(value):
    """The same with counts that a machine can bear: every node is a process."""
    if isinstance(value, dict):
        return {
            name: 1 if name in ("count", "minCount") and isinstance(inner, int) and 1 < inner <= 1000 else with_few_nodes(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [with_few_nodes(inner) for inner in value]
    return value


@schemathesis.hook
def before_call(context, case, kwargs):
    for name, value in (case.path_parameters or {}).items():
        if name == "subscription":
            case.path_parameters[name] = os.environ["AZURE_SUBSCRIPTION_ID"]
        elif name in NAMES:
            # The first group and cluster stay, or there would soon be nothing to do anything with.
            stays = case.method == "DELETE" and name in ("group", "cluster") and case.operation.path.endswith(f"{{{name}}}")
            case.path_parameters[name] = chosen(str(value), NAMES[name][stays:])
    case.body = with_few_nodes(case.body)


def main(seed, examples, phases="examples,coverage,fuzzing"):
    from azure.identity import ManagedIdentityCredential

    token = ManagedIdentityCredential().get_token("https://management.migpool.local/.default").token
    program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    os.environ["SCHEMATHESIS_HOOKS"] = os.path.abspath(__file__)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    arguments = [
        "run",
        os.environ["MIGPOOL_AZURE_ENDPOINT"] + "/openapi.json",
        "--header",
        f"Authorization: Bearer {token}",
        "--tls-verify",
        os.environ["REQUESTS_CA_BUNDLE"],
        "--phases",
        phases,
        "--checks",
        ",".join(CHECKS),
        "--max-examples",
        examples,
        "--seed",
        seed,
        "--rate-limit",
        "150/s",
        "--request-timeout",
        "30",
        "--suppress-health-check",
        "all",
        "--generation-database",
        "none",
        "--no-shrink",
        "--warnings",
        "off",
        "--continue-on-failure",
    ]
    # It leaves notes where it is run.
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(subprocess.run([program, *arguments], cwd=folder, check=False).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
