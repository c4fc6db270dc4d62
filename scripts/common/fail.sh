# shellcheck shell=bash
# To be sourced by scripts that hold something against what is expected of it.

fail() { # what was expected, what came
    echo "${0##*/}: expected $1" >&2
    printf '%s\n' "${2:-}" | sed 's/^/    /' >&2
    exit 1
}
