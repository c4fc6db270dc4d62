# shellcheck shell=bash
# What the parts of scripts/first_week.sh share: steps, waiting, and what documents print.

: "${work:?a folder of its own}"

step=
started=

now_ms() { date +%s%3N; }

# A step begins, and ends with its result in one line.
begin() {
    step=$1
    started=$(now_ms)
}

end() {
    # Said in a command substitution, whose end is not that of the script.
    [ ! -e "$work/failed" ] || exit 1
    local took=$(($(now_ms) - started))
    printf '%-40s %3d.%d s  %s\n' "$step" $((took / 1000)) $((took % 1000 / 100)) "$1"
}

# fail EXPECTED CAME
fail() {
    {
        echo "first_week: $step does not hold"
        echo "  expected: $1"
        echo "  came:     $2"
        if [ -s "$work/log/ringway" ]; then
            echo "  the log of ringway ends with:"
            tail -n 12 "$work/log/ringway" | sed 's/^/    /'
        fi
    } >&2
    : >"$work/failed"
    exit 1
}

# same WHAT EXPECTED CAME
same() {
    [ "$2" = "$3" ] || fail "$1: $2" "$3"
}

# Waits until a command succeeds: until_so SECONDS WHAT COMMAND...
until_so() {
    local deadline=$(($(now_ms) + $1 * 1000)) what=$2
    shift 2
    until "$@" >"$work/log/waited" 2>&1; do
        if [ "$(now_ms)" -ge "$deadline" ]; then fail "$what" "$(tail -n 8 "$work/log/waited")"; fi
        sleep 0.1
    done
}

# A command as a document prints it.
run() { bash -c "$1"; }

# The first block of a language below a heading, as it is printed: block FILE HEADING LANGUAGE
block() {
    local text
    text=$(awk -v heading="$2" -v fence="\`\`\`$3" '
        !inside && $0 == heading { found = 1; next }
        !inside && found && /^#+ / { exit }
        /^```/ { if (mine) exit; inside = !inside; mine = inside && found && $0 == fence; next }
        mine { print }' "$1")
    [ -n "$text" ] || fail "a block of $3 below \"$2\" in $1" "none"
    printf '%s\n' "$text"
}

# The one indented line of a document that fits a pattern, without the spaces before it.
line() {
    local found
    found=$(sed -n 's/^    *//p' "$1" | grep -E "$2" || true)
    [ "$(printf '%s' "$found" | grep -c '')" = 1 ] || fail "one line like $2 in $1" "${found:-none}"
    printf '%s\n' "$found"
}

# A command that stands in backquotes in a document: word FILE TEXT
word() {
    grep -qF "\`$2\`" "$1" || fail "\`$2\` in $1" "no such thing printed"
    printf '%s\n' "$2"
}

# replaced PRINTED MINE WHY
replaced() { echo "  (in place of \"$1\": \"$2\"; $3)" >&2; }

# Standard input with something in place of what is printed, which must be there: in_place_of PRINTED MINE WHY
in_place_of() {
    local text
    text=$(cat)
    case "$text" in *"$1"*) ;; *) fail "\"$1\" to be printed" "$text" ;; esac
    replaced "$1" "$2" "$3"
    printf '%s\n' "${text//"$1"/"$2"}"
}
