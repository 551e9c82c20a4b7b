//! Measuring a session's devices.
//!
//! Owns: [`Session::calibrate`], [`Session::rates`], [`Session::peaks`]. Must not know: how anything is measured (cost). Invariant: what was
//! measured is kept, and used from the next plan on.

use std::sync::{Arc, PoisonError};

use super::Session;
use super::driver::Inner;
use super::members::{Member, speed};
use crate::cost::{
    Calibration, GpuCalibration, Peaks, Rates, RefusedVariant, Tuned, calibrate, calibrate_gpu, calibrate_programs,
    calibration_bytes, gpu_peaks,
};
use crate::device::DeviceKind;
use crate::id::DeviceId;
use crate::schedule::Event;

impl Session {
    /// Measures this machine's CPU and GPUs (about half a second each, on an idle machine), and keeps the rates and peaks. A session whose memory
    /// limit has no room for four times what the caches hold (512 MB, and more with more than eight threads) keeps what it measures of a CPU to
    /// itself, and does not predict with it.
    pub fn calibrate(&self) {
        self.discover();
        self.calibrate_cpu();
        for (index, member) in self.0.members.all().iter().enumerate().filter(|(_, m)| m.spec.gpu.is_some()) {
            let (mut member, device) = (member.clone(), DeviceId::at(index));
            let refused = self.0.refused_variants(&member);
            if let Some(measured) = calibrate_gpu(&*member.device, &refused) {
                self.0.learn_gpu(&mut member, &measured);
                if let Some(peaks) = gpu_peaks(&*member.device, &measured) {
                    self.0.with_costs(|costs| costs.set_peaks(member.priced, peaks));
                }
                if let Some(link) = member.spec.link {
                    self.0.members.replace(device, member);
                    self.0.apply(Event::Link { device, link }, |_| ());
                }
            }
        }
        self.save_costs();
    }

    fn calibrate_cpu(&self) {
        let _one = self.0.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        self.measure_cpus(|| true);
    }

    /// Measures the CPU unless other runs load it: what is measured then is not what it can do, and would be kept for good.
    pub(super) fn calibrate_if_quiet(&self) {
        self.measure_if_quiet();
        self.save_costs(); // while nobody waits for the measuring: it goes to a file, and may warn
    }

    fn measure_if_quiet(&self) {
        let _one = self.0.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.calibrated() {
            return; // somebody else did meanwhile
        }
        let happened = || {
            let state = self.0.lock();
            (state.scheduler.flying() == 0).then_some(state.happened)
        };
        let Some(before) = happened() else { return };
        self.measure_cpus(|| happened() == Some(before));
    }

    /// Whether there is memory to measure: with less, it would be the caches.
    pub(super) fn may_calibrate(&self) -> bool {
        let members = self.0.members.all();
        let cpus = members.iter().filter(|m| m.spec.kind == DeviceKind::Cpu);
        cpus.map(|m| m.spec.workers as usize).max().is_none_or(|threads| calibration_bytes(threads) <= self.0.memory_limit / 4)
    }

    /// Measures the CPU devices, and keeps what is valid.
    fn measure_cpus(&self, valid: impl Fn() -> bool) {
        for member in self.0.members.all().iter().filter(|m| m.spec.kind == DeviceKind::Cpu) {
            let threads = member.spec.workers as usize;
            let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(threads).build() else { continue };
            // On a thread of no pool: one of a pool would run other tasks while it waits, which may want to measure too.
            let measured = std::thread::scope(|scope| {
                let measure = || (calibrate(&pool, self.0.memory_limit / 4), calibrate_programs(&pool));
                std::thread::Builder::new().spawn_scoped(scope, measure).ok()?.join().ok()
            });
            if let Some((measured, programs)) = measured.filter(|_| valid()) {
                self.0.with_costs(|costs| {
                    costs.set_calibration(member.priced, measured);
                    programs.iter().for_each(|sample| costs.record_sample(member.priced, sample));
                });
            }
        }
    }

    /// See [`super::Inside::rates`].
    pub(super) fn known_rates(&self, device: DeviceId) -> Option<(Rates, Option<Calibration>)> {
        let priced = self.0.members.all().get(device.index())?.priced;
        Some(self.0.with_costs(|costs| (costs.rates(priced), costs.calibration(priced).cloned())))
    }

    /// What a device as a whole does at best, as [`Session::calibrate`] measured it, now or in an earlier run. `None` if it never did, or the
    /// session has no such device.
    #[must_use]
    pub fn peaks(&self, device: DeviceId) -> Option<Peaks> {
        let priced = self.0.members.all().get(device.index())?.priced;
        self.0.with_costs(|costs| costs.peaks(priced))
    }

    /// See [`super::Inside::tuned`].
    pub(super) fn known_tuning(&self, device: DeviceId) -> Option<Tuned> {
        let priced = self.0.members.all().get(device.index())?.priced;
        self.0.with_costs(|costs| costs.tuned(priced).cloned())
    }

    pub(super) fn calibrated(&self) -> bool {
        let members = self.0.members.all();
        self.0.with_costs(|costs| members.iter().filter(|m| m.spec.kind == DeviceKind::Cpu).all(|m| costs.calibrated(m.priced)))
    }
}

impl Inner {
    /// Variants of a GPU's kernels that were found to be wrong, or worse.
    pub(super) fn refused_variants(&self, member: &Member) -> Vec<RefusedVariant> {
        self.with_costs(|costs| costs.tuned(member.priced).map_or(Vec::new(), |tuned| tuned.refused.clone()))
    }

    /// Keeps what was measured of a GPU, and tells it how it runs best: rates, samples of kernels, the link, whose speed goes into the member's spec.
    pub(super) fn learn_gpu(self: &Arc<Self>, member: &mut Member, measured: &GpuCalibration) {
        let mut tuned = measured.tuned.clone();
        self.with_costs(|costs| {
            // A test that came to no end is none.
            if let Some(before) = costs.tuned(member.priced).filter(|before| before.exact.tested && !tuned.exact.tested) {
                tuned.exact = before.exact;
            }
            costs.set_rates(member.priced, measured.rates);
            costs.set_tuned(member.priced, tuned.clone());
            for sample in &measured.kernels {
                costs.record_sample(member.priced, sample);
            }
            let Some(links) = member.links else { return };
            for (link, rate) in links.into_iter().zip(measured.link) {
                let device = costs.device_of(link);
                costs.set_rates(device, rate.into());
            }
            member.spec.link = Some(links.map(|link| speed(costs, link)));
        });
        member.tune(&tuned);
    }
}
