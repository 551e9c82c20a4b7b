// y = 2 x + 1, element by element: the smallest shader that reads, computes and writes. The host prepends
// `alias Number = i32;` (or f32, f64). Small integers and halves: exact in every dtype, so every element is compared exactly.
override workgroup: u32 = 64;

@group(0) @binding(0) var<storage, read> x: array<Number>;
@group(0) @binding(1) var<storage, read_write> y: array<Number>;

@compute @workgroup_size(workgroup)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&y) {
        y[id.x] = x[id.x] + x[id.x] + Number(1);
    }
}
