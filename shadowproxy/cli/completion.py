"""The command that prints a shell's completion script."""

import click

from shadowproxy.cli.group import commands, examples


@click.command(
    short_help="Let the shell complete commands and options.",
    epilog=examples("shadowproxy completion bash"),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that lets the shell complete commands, options and their values.

    For one session: source <(shadowproxy completion bash). For all sessions, put it where the shell looks for it:

    \b
    bash  ~/.local/share/bash-completion/completions/shadowproxy
    zsh   _shadowproxy, in a directory of $fpath
    fish  ~/.config/fish/completions/shadowproxy.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # click has all three
    # The name of the variable is click's: the shell sets it when it wants completions.
    click.echo(found(commands, {}, "shadowproxy", "_SHADOWPROXY_COMPLETE").source())
