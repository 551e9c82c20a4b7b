//! What is compiled for a GPU before anybody asks for it.
//!
//! Owns: [`compile_ahead`]. Must not know: compilers. Invariant: nobody waits for it but a thread that ends, because with it the program may: then drivers are taken down.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::asked::Uncompiled;
use super::discover::LEAVE;
use super::driver::Inner;
use super::members::Member;
use super::prices::priced_as;
use crate::cost::CostId;
use crate::device::{Device, DeviceKind};
use crate::id::TaskId;
use crate::kernel::calm;
use crate::schedule::{CANNOT, Estimates, Placement};
use crate::task::TaskGraph;

/// Has a GPU compile, while others work, what it would be faster at than the CPU is.
pub(super) fn compile_ahead(
    graph: &TaskGraph,
    uncompiled: &[Uncompiled],
    (estimates, member): (&Estimates, &Member),
    inner: &Inner,
) {
    let settings = &inner.settings;
    let never = settings.placement == Placement::Cpu && settings.policy.is_none();
    if uncompiled.is_empty() || never {
        return;
    }
    let members = inner.members.all();
    let on_cpu = |task: TaskId| {
        let profile = graph.profile(task);
        let kernel = priced_as(&graph.kernels()[profile.kernel.index()]);
        let cpus = members.iter().filter(|m| m.spec.kind == DeviceKind::Cpu);
        inner.with_costs(|costs| {
            let ns = |m: &Member| costs.resolve(m.priced, kernel, profile.dtype);
            let ids: Vec<CostId> = cpus.map(ns).collect();
            ids.into_iter().map(|id| costs.estimate(id, profile.work).ns).min()
        })
    };
    // The newest is compiled first: so the first that is needed comes last.
    for Uncompiled { task, kernel, program } in uncompiled.iter().rev() {
        let here = estimates.ns(graph, *task).unwrap_or(CANNOT);
        let is_worth_it = settings.placement != Placement::Auto || on_cpu(*task).is_none_or(|there| here < there);
        if here != CANNOT && is_worth_it {
            let _ = calm(|| member.device.compile_ahead(&**kernel, program)); // a user's device may panic
            finish_at_end(&member.device);
        }
    }
}

/// The devices that the main thread has had compile something.
struct Compiling(RefCell<Vec<Weak<dyn Device>>>);

impl Drop for Compiling {
    fn drop(&mut self) {
        let end = Instant::now() + LEAVE;
        for device in self.0.take().iter().filter_map(Weak::upgrade) {
            let _ = calm(|| device.finish_compiling(end));
        }
    }
}

thread_local! {
    static COMPILING: Compiling = const { Compiling(RefCell::new(Vec::new())) };
}

/// Has the main thread wait, as it ends, for what the device compiles: with it the process ends, and so may a compiler in the middle of its work. Another thread's end is nobody's
/// else: it neither waits nor gives up what others have had compiled. Not on Windows, where other threads have been stopped by then.
fn finish_at_end(device: &Arc<dyn Device>) {
    if cfg!(unix) && std::thread::current().name() == Some("main") {
        // A thread that has come that far in ending does not wait.
        let _ = COMPILING.try_with(|compiling| {
            let mut compiling = compiling.0.borrow_mut();
            compiling.retain(|known| known.strong_count() > 0);
            if !compiling.iter().any(|known| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(device))) {
                compiling.push(Arc::downgrade(device));
            }
        });
    }
}
