//! Which workers stay on a CPU.

/// The CPU of each worker, or `None`: the kernel places them. `mask` is the CPUs that this process may run on.
///
/// With a worker for each CPU of the mask, none is left out and none has two, whatever else runs there. That is so on a
/// machine, in a unit with `CPUAffinity=` and in a container with a cpuset. With fewer workers, pinning would choose
/// among CPUs that this process may share: two ringways with one worker each would both sit on the first one, and so
/// would every container that has a CPU quota and sees all CPUs of its node. With more, two workers would be tied to
/// the same CPU.
pub(super) fn cpus_of_workers(wanted: bool, workers: usize, mask: &[usize]) -> Option<&[usize]> {
    (wanted && workers == mask.len()).then_some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_pinned_exactly_if_each_cpu_of_the_mask_has_one() {
        let machine: Vec<usize> = (0..64).collect();
        for (workers, mask) in [
            (64, &machine[..]), // a machine, or a quota of all of it
            (2, &[2, 3]),       // CPUAffinity= or a cpuset
            (3, &[0, 9, 63]),
            (1, &[5]), // as benchmarks run it
        ] {
            assert_eq!(cpus_of_workers(true, workers, mask), Some(mask), "{workers} on {mask:?}");
            assert_eq!(cpus_of_workers(false, workers, mask), None, "{workers} on {mask:?}");
        }
        for (workers, mask) in [
            (1, &[0, 1][..]), // one of two ringways
            (2, &machine),    // a quota and no cpuset
            (3, &[0, 1]),     // more workers than CPUs
            (1, &[]),         // a mask that cannot be read
        ] {
            assert_eq!(cpus_of_workers(true, workers, mask), None, "{workers} on {mask:?}");
        }
    }
}
