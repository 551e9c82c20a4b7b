//! A GPU that is short of memory, or is given bad programs: whom it concerns is told, and nobody else suffers.
//!
//! Owns: what becomes of the others in a submission when one of them cannot be recorded. Must not know: sessions. Invariant: every wait has a limit.
#![cfg(feature = "gpu")]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use chunkwise::device::gpu::{Gpu, Sabotage};
use chunkwise::device::{Body, Data, Failure, Output, Report};
use chunkwise::id::SpaceId;
use chunkwise::kernel::gemv::Gemv;
use chunkwise::kernel::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};
use support::lab::{Chunk, Lab, Place, start, wait};

support::gpus!();

fn numbers(n: usize) -> Chunk {
    Chunk::new(DType::F32, &[n], |i| i as f64)
}

fn run(lab: &Lab, kernel: &Arc<dyn Kernel>, inputs: &[&Data], to: &Data) -> Receiver<Report> {
    let outputs = vec![Output { to: to.clone(), copy_in: None }];
    let inputs = inputs.iter().map(|&data| data.clone()).collect();
    start(&*lab.gpu, kernel, Body::Run { params: Vec::new(), inputs, outputs, scratch_bytes: 0 }, 3_000_000)
}

/// With little staging, and what breaks it.
fn little() -> Option<(Lab, chunkwise::device::gpu::Breaker)> {
    let (gpu, breaker) = Gpu::open_breakable(&adapter()?, "gpu0", SpaceId(1), 512 << 10).expect("opens");
    Some((Lab { gpu: Arc::new(gpu) }, breaker))
}

#[test]
fn a_large_download_with_memory_for_a_staging_buffer_or_two_arrives() {
    for (n, room) in [(2 << 20, 64 << 10), (2 << 20, 128 << 10), (1 << 20, 64 << 10)] {
        let Some((lab, breaker)) = little() else { return };
        let chunk = numbers(n);
        let far = lab.upload(&chunk, Place::Plain);
        std::thread::sleep(Duration::from_millis(50));
        breaker.after(0, Sabotage::Memory(lab.gpu.counters().bytes + room));
        let (landing, report) = lab.start_download(&far, n);
        wait(&report).unwrap_or_else(|e| panic!("{n} with room for {room}: {e:?}"));
        assert!(landing.values() == chunk.values, "{n} with room for {room}");
    }
}

#[test]
fn a_launch_that_is_refused_takes_no_download_along() {
    for turn in 0..3 {
        let Some((lab, breaker)) = little() else { return };
        let n = 8 << 20;
        let chunk = numbers(n);
        let far = lab.upload(&chunk, Place::Plain);
        let (s, t) = (lab.upload(&numbers(16), Place::Plain), lab.room(DType::F32, &[16]));
        wait(&lab.start_copy(&s, &t, 1000)).expect("compiled");
        assert_eq!(lab.download(&t, Place::Plain), numbers(16).values);
        // Room for all staging, not for the copy, which would be cut.
        breaker.after(0, Sabotage::Memory(lab.gpu.counters().bytes + (1 << 20)));
        let big = lab.room(DType::F32, &[n]);
        let (landing, down) = lab.start_download(&far, n);
        std::thread::sleep(Duration::from_micros(500));
        let refused = wait(&lab.start_copy(&far, &big, 200_000_000));
        assert!(matches!(refused, Err(Failure::OutOfMemory(_))), "{refused:?}");
        wait(&down).unwrap_or_else(|e| panic!("turn {turn}: {e:?}"));
        assert!(landing.values() == chunk.values, "turn {turn}");
    }
}

/// A kernel of one workgroup that writes 1, and says that the data are bad if `row` is not 0.
struct Says {
    row: u32,
    groups: u64,
    /// Elements that its shader wants to see.
    len: Option<u32>,
}

impl Says {
    fn name_of(&self) -> String {
        format!("says {} {} {:?}", self.row, self.groups, self.len)
    }
}

impl Kernel for Says {
    fn name(&self) -> Cow<'static, str> {
        self.name_of().into()
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        Work::default()
    }
    fn program(&self, _: &[u8], operands: &[ChunkMeta<'_>], _: &GpuFacts) -> Option<Program> {
        let one = if operands[0].dtype == DType::Bool { "u32" } else { "f32" };
        let array = self.len.map_or(format!("array<{one}>"), |len| format!("array<{one}, {len}>"));
        let text = format!(
            "@group(0) @binding(1) var<storage, read_write> y: {array};
             @group(0) @binding(2) var<storage, read_write> fault: array<atomic<u32>, 4>;
             @compute @workgroup_size(1) fn run() {{ y[0] = {one}(1); atomicMax(&fault[0], {}u); }}",
            self.row
        );
        let shader = Shader::new(self.name_of(), text).with_operands(0, 1).into();
        let most = Work { flops: 1.0, bytes: 1.0 };
        let mut program = Program::new(&shader, DType::F32, &[], vec![Pass::new("run", self.groups, 0)], most);
        program.faults = true;
        Some(program)
    }
    fn fault(&self, _: &[u8], words: [u32; 4]) -> Option<Fault> {
        (words[0] != 0).then(|| Fault::NotPositive { row: u64::from(words[0]), pivot: -1.0 })
    }
    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
        Ok(())
    }
}

/// A matrix and a vector whose product keeps the GPU busy for a while.
struct Busy {
    kernel: Arc<dyn Kernel>,
    a: Data,
    x: Data,
    y: Data,
}

impl Busy {
    fn new(lab: &Lab) -> Self {
        let n = 2048;
        let a = lab.upload(&Chunk::new(DType::F32, &[n, n], |i| (i % 7) as f64), Place::Plain);
        let this = Self { kernel: Arc::new(Gemv), a, x: lab.upload(&numbers(n), Place::Plain), y: lab.room(DType::F32, &[n]) };
        wait(&this.run(lab)).expect("compiled");
        this
    }

    fn run(&self, lab: &Lab) -> Receiver<Report> {
        run(lab, &self.kernel, &[&self.a, &self.x], &self.y)
    }
}

#[test]
fn a_fault_is_not_told_of_the_launch_behind_one_that_was_refused() {
    for turn in 0..3 {
        let Some((gpu, breaker)) = breakable() else { return };
        let lab = Lab { gpu };
        let busy = Busy::new(&lab);
        let says = |row| Arc::new(Says { row, groups: 1, len: None }) as Arc<dyn Kernel>;
        let (bad, good, count) = (says(7), says(0), 1 << 20);
        let (first, small) = (lab.room(DType::Bool, &[count]), lab.room(DType::F32, &[16]));
        // Until all the ring's places are there, so that nothing but an output is missing later.
        for _ in 0..20 {
            let told = wait(&run(&lab, &bad, &[], &first));
            assert!(matches!(told, Err(Failure::Fault(Fault::NotPositive { row: 7, .. }))), "{told:?}");
        }
        wait(&run(&lab, &good, &[], &small)).expect("alone");
        breaker.after(0, Sabotage::Memory(lab.gpu.counters().bytes + 1000));
        let other = lab.room(DType::Bool, &[count]);
        let before = busy.run(&lab);
        std::thread::sleep(Duration::from_micros(500));
        let (refused, behind) = (run(&lab, &bad, &[], &other), run(&lab, &good, &[], &small));
        wait(&before).expect("busy");
        let refused = wait(&refused);
        assert!(matches!(refused, Err(Failure::OutOfMemory(_))), "{refused:?}");
        wait(&behind).unwrap_or_else(|e| panic!("turn {turn}: {e:?}"));
    }
}

#[test]
fn a_program_that_is_refused_leaves_the_others_of_its_submission_alone() {
    // More elements than the chunk has; more workgroups than there may be.
    for (groups, len) in [(1, Some(4096)), (u64::from(u32::MAX), None)] {
        let Some(gpu) = gpu() else { return };
        let lab = Lab { gpu };
        let busy = Busy::new(&lab);
        let rude: Arc<dyn Kernel> = Arc::new(Says { row: 0, groups, len });
        let small = lab.room(DType::F32, &[16]);
        for _ in 0..3 {
            let before: Vec<_> = (0..3).map(|_| busy.run(&lab)).collect();
            let up = lab.upload(&numbers(16), Place::Plain);
            let refused = run(&lab, &rude, &[], &small);
            let behind: Vec<_> =
                (0..5).map(|_| (lab.room(DType::F32, &[16]), &up)).map(|(to, up)| lab.start_copy(up, &to, 1000)).collect();
            let refused = wait(&refused);
            assert!(matches!(refused, Err(Failure::Unfit(_))), "{refused:?}");
            before.iter().chain(&behind).for_each(|report| wait(report).expect("it is innocent"));
            assert_eq!(lab.download(&up, Place::Plain), numbers(16).values, "and the GPU goes on");
        }
    }
}
