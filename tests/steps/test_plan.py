"""The campaign's input: what it accepts, what it says otherwise, and that every form of it reads back as the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.campaign_input import CampaignInput, InvalidInputError, campaign_input
from steps.fields import owner, seconds
from steps.plan import Target


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30), ("1m30s", 90), ("1.5h", 5400), ("2d", 172_800), ("250ms", 0.25), ("45", 45), (12, 12)],
)
def test_durations_are_gos_and_days(text: object, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "5x", "1m 30s", "-5s", "1e3s", None])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        seconds(text)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "selector, pods, owners or nodes must say which pods to capture (pods: '*' for all)"),
        ({"pods": "a", "duration": "5x"}, "duration: '5x': a duration such as 30s, 1m30s, 2h or 1d is needed"),
        ({"pods": "a", "duration": "2d"}, "duration: '2d': at least 100ms and at most 1d is allowed"),
        ({"pods": "a", "packets": "0"}, "packets: '0': at least 1 is allowed"),
        ({"pods": "a", "filter": "-z id"}, "filter: '-z id' starts with '-', as an option would, not a filter"),
        ({"pods": "a", "filter": " -w x"}, "filter: ' -w x' starts with '-', as an option would, not a filter"),
        (
            {"pods": "a", "filter": "{{x}}"},
            "filter: '{{x}}': neither '{{', which Argo would expand, nor NUL is allowed",
        ),
        (
            {"pods": "a", "filter": "a\0b"},
            "filter: 'a\\x00b': neither '{{', which Argo would expand, nor NUL is allowed",
        ),
        ({"pods": "a", "duration": "1ms"}, "duration: '1ms': at least 100ms and at most 1d is allowed"),
        ({"pods": "a", "bytes": "1TiB"}, "bytes: '1TiB': at most 10GiB is allowed"),
        ({"pods": "a", "chunk": "1KiB"}, "chunk: '1KiB': at least 1MiB is allowed"),
        ({"pods": "a", "buffer": "much"}, "buffer: 'much': a size such as 512KiB, 64MiB or 1GiB is needed"),
        ({"pods": "a", "packets": "1.5"}, "packets: '1.5': a whole number is needed"),
        ({"pods": "a", "interface": "e;id"}, "interface: 'e;id': at most 15 letters, digits and . _ @ : - are allowed"),
        ({"pods": "a", "tool": "nc"}, "tool: 'nc': it should be 'tcpdump', 'iperf3', 'iperf', 'ping', "),
        ({"pods": "a", "tool": "bpftrace"}, "tool: 'bpftrace': it should be 'tcpdump', "),
        ({"pods": "a", "tool": "iperf3"}, "arguments: '': iperf3 needs some, as they are typed after its name"),
        ({"pods": "a", "tool": "tcpdump+ping"}, "arguments: '': ping needs some, as they are typed after its name"),
        (
            {"pods": "a", "tool": "ss", "print": "true"},
            "print: 'true': only a capture's packets are printed, and tool ss captures none",
        ),
        ({"pods": "a", "destination": "endpoint"}, "destination: 'endpoint': HOST:PORT or tls://HOST:PORT is needed"),
        ({"pods": "a", "destination": "e:70000"}, "destination: 'e:70000': HOST:PORT or tls://HOST:PORT is needed"),
        ({"pods": "a", "thresholds": "foo=1"}, "thresholds: 'foo=1': "),
        ({"owners": "pod/a"}, "owners: 'pod/a': KIND/NAME is needed, with one of the kinds"),
    ],
)
def test_bad_input_is_one_sentence_with_field_value_and_what_is_allowed(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        campaign_input(values)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["namespaces", "selector", "pods", "nodes", "filter", "arguments"])
def test_what_argo_would_expand_is_refused_in_every_field(field: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{field}: '{{{{x}}}}': neither '{{{{', which Argo would expand"):
        campaign_input({"pods": "a", "tool": "ss", field: "{{x}}"})


def test_a_misspelt_field_names_the_fields() -> None:
    with pytest.raises(InvalidInputError, match="pod: no such field; the fields are namespaces, selector"):
        campaign_input({"pod": "a"})


@given(
    st.fixed_dictionaries(
        {"pods": st.lists(st.from_regex(r"[a-z][a-z0-9*-]{0,8}", fullmatch=True), min_size=1, unique=True)},
        optional={
            "filter": st.from_regex(r"[a-z0-9][^{\x00]{0,20}", fullmatch=True),
            "duration": st.floats(0.25, 86_400).map(lambda value: f"{value:g}s"),
            "bytes": st.integers(1024, 10_240 * 1024**2),
            "loopback": st.booleans(),
            "owners": st.just("deploy/web, ds/agent"),
        },
    )
)
def test_parameters_read_back_as_the_same_input(values: dict[str, object]) -> None:
    asked = campaign_input(values)
    parameters = asked.parameters()
    assert set(parameters) == set(CampaignInput.model_fields)
    assert all(isinstance(value, str) for value in parameters.values())
    assert campaign_input(parameters) == asked


def test_every_limit_has_a_default_and_every_field_a_description() -> None:
    for name, field in CampaignInput.model_fields.items():
        assert not field.is_required(), name
        assert field.description, name


def test_lists_may_have_commas_or_spaces_and_each_word_counts_once() -> None:
    assert campaign_input({"pods": " a,b  a,, c "}).pods == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["deploy/web", "deployment/web", "Deployments/web"])
def test_owners_are_written_as_for_kubectl(text: str) -> None:
    assert owner(text) == "Deployment/web"


@pytest.mark.parametrize(
    ("tool", "arguments", "captures", "program"),
    [
        ("tcpdump", "", True, ""),
        ("tcpdump", "-nn", False, "tcpdump"),
        ("ss", "", False, "ss"),
        ("iperf3", "-s", False, "iperf3"),
        ("tcpdump+nstat", "", True, "nstat"),
        ("tcpdump+ping", "10.0.0.7", True, "ping"),
    ],
)
def test_what_captures_and_what_runs_beside_it(tool: str, arguments: str, captures: bool, program: str) -> None:
    asked = campaign_input({"pods": "a", "tool": tool, "arguments": arguments})
    assert (asked.captures, asked.program) == (captures, program)


def test_a_targets_directory_tells_namespace_pod_and_incarnation() -> None:
    first = Target(namespace="a-b", pod="c.d", uid="11111111-aaaa", node="n")
    again = first.model_copy(update={"uid": "22222222-aaaa"})
    assert first.directory == "a-b_c.d_11111111"
    assert again.directory != first.directory
