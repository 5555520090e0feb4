//! Several threads at one piece of work: one finds what is to do, all do it.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::Result;

/// More threads than this only wait for the file system.
const MOST: usize = 4;
/// Files for which a further thread is not worth its start.
const FEW: usize = 500;
/// Tasks that wait at most. Each holds a directory open.
const WAITING: usize = 64;

/// Passes a task on, or does it with the hand that is given where all others are behind.
pub type HandOver<'a, H, T> = dyn FnMut(&mut H, T) -> Result<()> + 'a;

/// Threads that are worth it for so many files.
pub fn threads(files: usize) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    if files < FEW { 1 } else { processors.min(MOST) }
}

/// Lets `find` hand over tasks and each thread `run` them with a `hand` of its own; returns the hands.
///
/// # Errors
/// One of those that occurred; the others then stop as well.
pub fn work<H: Send, T: Send>(
    threads: usize,
    hand: impl Fn() -> H,
    find: impl FnOnce(&mut H, &mut HandOver<'_, H, T>) -> Result<()>,
    run: impl Fn(&mut H, T) -> Result<()> + Sync,
) -> Result<Vec<H>> {
    let mut own = hand();
    if threads < 2 {
        find(&mut own, &mut |hand, task| run(hand, task))?;
        return Ok(vec![own]);
    }
    let (send, receive) = sync_channel::<T>(WAITING);
    let receive = Mutex::new(receive);
    let failed = AtomicBool::new(false);
    let next = || receive.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    let drain = |hand: &mut H| {
        while let Some(task) = next() {
            // After an error the tasks that wait are only taken away.
            if failed.load(Ordering::Relaxed) {
                continue;
            }
            run(hand, task).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let mut others = Vec::new();
        for _ in 1..threads {
            let mut hand = hand();
            let drain = &drain;
            // A thread that cannot be started is done without.
            let started = thread::Builder::new().spawn_scoped(scope, move || drain(&mut hand).map(|()| hand));
            others.extend(started);
        }
        let found = find(&mut own, &mut |hand, task| match send.try_send(task) {
            _ if failed.load(Ordering::Relaxed) => Ok(()),
            Ok(()) => Ok(()),
            Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) => run(hand, task),
        });
        if found.is_err() {
            failed.store(true, Ordering::Relaxed);
        }
        drop(send);
        let drained = drain(&mut own);
        let mut hands = Vec::new();
        for other in others {
            match other.join() {
                Ok(result) => hands.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found.and(drained)?;
        let mut hands = hands.into_iter().collect::<Result<Vec<_>>>()?;
        hands.push(own);
        Ok(hands)
    })
}
