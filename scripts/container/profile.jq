# What Docker makes of a profile for a container that has no capabilities: a rule counts if it is for this machine
# ($arch, as Go names it), and for those that lack the capabilities that it names.
{amd64: "SCMP_ARCH_X86_64", arm64: "SCMP_ARCH_AARCH64"} as $machines
| {
    defaultAction,
    defaultErrnoRet,
    architectures: (.architectures
        // [.archMap[] | select(.architecture == $machines[$arch]) | .architecture, .subArchitectures[]?]),
    syscalls: [
        .syscalls[]
        # Linux 5.4 is newer than any that a profile names.
        | select((.includes.caps // []) == [] and (.excludes.minKernel // "") == "")
        | select((.includes.arches // [$arch]) | index($arch))
        | select((.excludes.arches // []) | index($arch) | not)
        | {names, action, errnoRet, args}
        | with_entries(select(.value != null))
    ]
}
