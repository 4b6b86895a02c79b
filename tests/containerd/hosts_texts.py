"""Texts of `hosts.toml` as administrators write them, by the thousand."""

from hypothesis import strategies as st

_COMMENTS = st.sampled_from(["", "# a comment\n", "\n", "  # indented\n", "\n\n", "# [host] in a comment\n", "#\n"])
_VALUES = st.sampled_from(
    [
        '"text"',
        "'literal'",
        "true",
        "7",
        '["a", "b"]',
        '[\n  "a", # with a comment\n  "b",\n]',
        '[\n["a.cert", "a.key"],\n]',
        '"""\n[host."https://not.a.table"]\n# nor a comment\n"""',
        "'''\n[x]\n'''",
        '"line\\nend"',
    ]
)
_ROOT_KEYS = st.lists(
    st.sampled_from(["server", "ca", "client", "skip_verify", "unknown", '"quoted key"', "dotted.key"]),
    unique=True,
    max_size=4,
)
_HOSTS = st.lists(
    st.sampled_from(["https://cache.example", "http://10.0.0.1:5000", "https://a.example/v2/b", "http://[::1]:80"]),
    unique=True,
    max_size=3,
)
_HOST_KEYS = st.lists(
    st.sampled_from(["capabilities", "ca", "skip_verify", "override_path", "unknown"]), unique=True, max_size=3
)


@st.composite
def hosts_texts(draw: st.DrawFn) -> str:
    """A file that containerd can read, or one that is TOML and more than it asks for."""
    text = draw(_COMMENTS)
    for key in draw(_ROOT_KEYS):
        text += f"{draw(st.sampled_from(['', '  ']))}{key} = {draw(_VALUES)} {draw(_COMMENTS)}".rstrip(" ")
        text += "" if text.endswith("\n") else "\n"
    if draw(st.booleans()):
        text += "[host]\n" + draw(_COMMENTS)
    for host in draw(_HOSTS):
        text += f'{draw(_COMMENTS)}{draw(st.sampled_from(["", "  "]))}[host."{host}"]\n'
        for key in draw(_HOST_KEYS):
            text += f"  {key} = {draw(_VALUES)}\n"
        if draw(st.booleans()):
            text += f'  [host."{host}".header]\n    x-custom = "1"\n'
    if draw(st.booleans()):
        text += f"[other]\nkey = {draw(_VALUES)}\n"
    text += draw(_COMMENTS)
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text
