//! Independent pieces of one fit on a few threads, steered from the thread that fits.

use std::{
    ops::ControlFlow,
    panic::resume_unwind,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use crate::error::MethodError;

/// Runs `piece(0..count)` on at most `threads` threads and returns the results in order.
///
/// Each piece calls its second argument after every step and stops when that says so. Steps are handed over one by
/// one to `on_step` on the calling thread; while that blocks, all pieces wait.
///
/// # Errors
///
/// [`MethodError::Cancelled`] when `on_step` broke off, else the first failing piece's error.
///
/// # Panics
///
/// When a piece does, with its panic: a failure of ours is no failure of what is fitted.
pub(crate) fn run<T: Send>(
    count: usize,
    threads: usize,
    on_step: &mut dyn FnMut() -> ControlFlow<()>,
    piece: impl Fn(usize, &mut dyn FnMut() -> ControlFlow<()>) -> Result<T, MethodError> + Sync,
) -> Result<Vec<T>, MethodError> {
    let threads = threads.clamp(1, count.max(1));
    if threads == 1 {
        return (0..count).map(|index| piece(index, on_step)).collect();
    }
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (steps, heard) = mpsc::sync_channel::<()>(0);
    let mut done: Vec<(usize, Result<T, MethodError>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (steps, next, stopped, piece) = (steps.clone(), &next, &stopped, &piece);
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count || stopped.load(Ordering::Relaxed) {
                            return mine;
                        }
                        let mut step = || {
                            if stopped.load(Ordering::Relaxed) || steps.send(()).is_err() {
                                return ControlFlow::Break(());
                            }
                            ControlFlow::Continue(())
                        };
                        mine.push((index, piece(index, &mut step)));
                    }
                })
            })
            .collect();
        drop(steps);
        while heard.recv().is_ok() {
            if !stopped.load(Ordering::Relaxed) && on_step().is_break() {
                stopped.store(true, Ordering::Relaxed);
            }
        }
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    });
    if stopped.load(Ordering::Relaxed) {
        return Err(MethodError::Cancelled);
    }
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn results_keep_their_order_on_any_number_of_threads() {
        for threads in [1, 2, 8] {
            let mut steps = 0;
            let mut count = || {
                steps += 1;
                ControlFlow::Continue(())
            };
            let squares = run(9, threads, &mut count, |index, step| {
                let _ = step();
                Ok(index * index)
            });
            assert_eq!(squares.unwrap(), (0..9).map(|i| i * i).collect::<Vec<_>>());
            assert_eq!(steps, 9);
        }
    }

    #[test]
    fn breaking_off_stops_every_piece() {
        for threads in [1, 2] {
            let mut steps = 0;
            let mut third = || {
                steps += 1;
                if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let result = run(4, threads, &mut third, |_, step| {
                for _ in 0..1_000_000 {
                    if step().is_break() {
                        return Err(MethodError::Cancelled);
                    }
                }
                Ok(())
            });
            assert!(matches!(result, Err(MethodError::Cancelled)));
            assert_eq!(steps, 3);
        }
    }

    #[test]
    fn a_piece_that_panics_is_no_fit_that_diverged() {
        for threads in [1, 2] {
            let caught = catch_unwind(|| {
                run(2, threads, &mut || ControlFlow::Continue(()), |index, step| {
                    let _ = step();
                    if index == 1 { panic!("the fit's own") } else { Ok(index) }
                })
            });
            let panic = caught.expect_err("the panic is handed on");
            assert_eq!(panic.downcast_ref(), Some(&"the fit's own"), "{threads} threads");
        }
    }
}
