"""The command that teaches a shell the others."""

import click

from shadowproxy.cli.group import commands, examples


@click.command(
    short_help="Let the shell complete commands and options.",
    epilog=examples(
        "shadowproxy completion bash > ~/.local/share/bash-completion/completions/shadowproxy",
        "shadowproxy completion zsh > ~/.zfunc/_shadowproxy",
        "shadowproxy completion fish > ~/.config/fish/completions/shadowproxy.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script by which SHELL completes the commands, their options and what these take.

    Put it where the shell looks for such, as below (for zsh, a directory of $fpath), or for one session:
    source <(shadowproxy completion bash).
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # click has all three
    # The name of the variable is click's: by it the program knows that a shell is asking.
    click.echo(found(commands, {}, "shadowproxy", "_SHADOWPROXY_COMPLETE").source())
