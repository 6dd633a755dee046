//! One result written by several threads, each its own part.
#![expect(unsafe_code, reason = "threads write disjoint parts of one result")]

use super::product::Threads;

#[derive(Clone, Copy)]
struct Target(*mut f32);

// SAFETY: parts are disjoint, see `parts`.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    fn at(self, place: usize) -> *mut f32 {
        self.0.wrapping_add(place)
    }
}

/// Calls `part` for each run of `each` numbers, with its place among them; runs are dealt out to threads in neighbouring
/// groups.
pub(super) fn parts(
    threads: &impl Threads,
    out: &mut [f32],
    each: usize,
    part: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (each, length) = (each.max(1), out.len());
    let count = length.div_ceil(each);
    let groups = count.min(threads.count().max(1) * 4);
    let target = Target(out.as_mut_ptr());
    threads.run(groups, &|group| {
        for at in count * group / groups..count * (group + 1) / groups {
            let (start, end) = (at * each, ((at + 1) * each).min(length));
            // SAFETY: `start..end` lies in `out`, which is borrowed for as long, and no other run has it.
            let run = unsafe { std::slice::from_raw_parts_mut(target.at(start), end - start) };
            part(at, run);
        }
    });
}

/// The same over two results at once, each cut into as many runs.
pub(super) fn pairs(
    threads: &impl Threads,
    (first, each): (&mut [f32], usize),
    (second, other): (&mut [f32], usize),
    part: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let (length, target) = (second.len(), Target(second.as_mut_ptr()));
    assert!(first.len().div_ceil(each.max(1)) * other <= length, "runs of both");
    parts(threads, first, each, |at, run| {
        // SAFETY: the run lies in `second`, as asserted, which is borrowed for as long, and no other has it.
        let second = unsafe { std::slice::from_raw_parts_mut(target.at(at * other), other) };
        part(at, run, second);
    });
}
