//! The program's allocator: mimalloc, and what becomes of a training for which it has nothing left.
//!
//! Rust ends a program that asks for memory in vain, wherever it asked, and neither burn nor the standard library can be
//! made to give up the training alone. While a network is trained, this process therefore becomes the same program
//! anew: same process id, same command line with `--exhausted=CLAIM` behind it, all memory given back. It publishes the
//! outcome of that claim first and then goes on with other jobs (`run.rs`). Nothing is allocated on the way there.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{CString, OsString, c_char};
use std::os::unix::ffi::OsStringExt as _;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use mimalloc::MiMalloc;
use shared::Claim;

/// This program, also if its file has been replaced since it was started.
const PROGRAM: &std::ffi::CStr = c"/proc/self/exe";
/// What the name of a claim stands behind on the command line.
const ARGUMENT: &str = "--exhausted=";

/// How this process is to be replaced; whoever takes it out of here owns it.
static CALL: AtomicPtr<Call> = AtomicPtr::new(ptr::null_mut());

/// What is in [`CALL`] from the moment on at which this process is being replaced. Never read.
const LEAVING: *mut Call = ptr::without_provenance_mut(align_of::<Call>());

/// A command line as the system wants it.
#[derive(Debug)]
struct Call {
    /// Ends with a null pointer; the others point into `_arguments`, whose bytes never move.
    pointers: Vec<*const c_char>,
    _arguments: Vec<CString>,
}

/// While this lives, a lack of memory replaces the process.
#[derive(Debug)]
pub struct Armed(());

/// From now on a lack of memory ends the evaluation of `claim`, not the program.
///
/// Without effect in a program that does not have [`Allocator`] as its own.
pub fn arm(claim: &Claim) -> Armed {
    let arguments = std::env::args_os()
        .filter(|argument| !argument.as_encoded_bytes().starts_with(ARGUMENT.as_bytes()))
        .chain([OsString::from(format!("{ARGUMENT}{claim}"))])
        .filter_map(|argument| CString::new(argument.into_vec()).ok()) // neither the system's nor ids have zero bytes
        .collect::<Vec<CString>>();
    let pointers = arguments
        .iter()
        .map(|argument| argument.as_ptr())
        .chain([ptr::null()])
        .collect();
    swap(Box::into_raw(Box::new(Call {
        pointers,
        _arguments: arguments,
    })));
    Armed(())
}

impl Drop for Armed {
    fn drop(&mut self) {
        swap(ptr::null_mut());
    }
}

/// Puts another call, or none, in the place of the one there is.
#[expect(unsafe_code, reason = "ownership goes through an atomic pointer")]
fn swap(next: *mut Call) {
    let previous = CALL.swap(next, Ordering::AcqRel);
    if previous == LEAVING {
        // Another thread is replacing this process; it does not come back from that, or ends the program.
        CALL.store(LEAVING, Ordering::Release);
        wait();
    }
    if !previous.is_null() {
        // SAFETY: it is from `Box::into_raw` in `arm`, and whoever takes it out of `CALL` is its only owner.
        drop(unsafe { Box::from_raw(previous) });
    }
}

/// From now on this process is not replaced any more: it is about to end. Who has no memory waits for that.
pub fn disarm() {
    if CALL.swap(LEAVING, Ordering::AcqRel) == LEAVING {
        // Too late: it is being replaced.
        wait();
    }
}

/// Waits until this process is another program.
fn wait() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Replaces this process if that was asked for; returns where it was not, or cannot be done. Allocates nothing.
#[cold]
fn start_over() {
    let call = CALL.swap(LEAVING, Ordering::AcqRel);
    if call == LEAVING {
        wait();
    }
    if call.is_null() {
        CALL.store(ptr::null_mut(), Ordering::Release);
        return;
    }
    #[expect(
        unsafe_code,
        reason = "the system's call, with no memory for a safe one"
    )]
    // SAFETY: this thread alone has the call, which came from `Box::into_raw` and is never freed from here on: its
    // pointers are to strings that end with a zero, the last one is null, and so is the path's end.
    unsafe {
        libc::execv(PROGRAM.as_ptr(), (*call).pointers.as_ptr());
    }
    // Not replaced after all. Other threads go on waiting, for the end that this one's caller is about to make.
}

/// The allocator of the program.
///
/// Every step of a training asks for the same large blocks again; the C library's allocator hands them back to the
/// kernel in between, which then has to fill them with zeros. mimalloc keeps them.
#[derive(Debug, Default)]
pub struct Allocator;

#[expect(unsafe_code, reason = "an allocator's interface is unsafe")]
// SAFETY: everything is what mimalloc does; where it has no memory, nothing is added but the end of this process.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that it needs.
        had(unsafe { MiMalloc.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        had(unsafe { MiMalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        had(unsafe { MiMalloc.realloc(block, layout, size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

/// The block, if there is one; else perhaps nothing any more.
#[inline]
fn had(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        start_over();
    }
    block
}
