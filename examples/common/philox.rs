//! Random numbers in plain loops: what the library's are checked against.
//!
//! Owns: Philox4x32-10, as its paper writes it, and what is made of its words. Must not know: the library's code for it. Invariant: element `i` follows from seed, stream and `i`.

/// The four words of a counter.
fn words(seed: u64, stream: u64, counter: u64) -> [u64; 4] {
    let halves = |n: u64| [n & 0xffff_ffff, n >> 32];
    let ([c0, c1], [c2, c3]) = (halves(counter), halves(stream));
    let (mut c, mut k) = ([c0, c1, c2, c3], halves(seed));
    for _ in 0..10 {
        let (p, q) = (0xD251_1F53 * c[0], 0xCD9E_8D57 * c[2]);
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xffff_ffff, (p >> 32) ^ c[3] ^ k[1], p & 0xffff_ffff];
        k = [(k[0] + 0x9E37_79B9) & 0xffff_ffff, (k[1] + 0xBB67_AE85) & 0xffff_ffff];
    }
    c
}

/// 53 bits of two words, as a number in [0, 1).
fn unit(low: u64, high: u64) -> f64 {
    ((low | high << 32) >> 11) as f64 / 9_007_199_254_740_992.0
}

/// Uniform element `i`: of `f64`, or of `f32`.
pub fn uniform(seed: u64, stream: u64, i: u64, is_single: bool) -> f64 {
    match is_single {
        true => (words(seed, stream, i / 4)[(i % 4) as usize] >> 8) as f64 / 16_777_216.0,
        false => {
            let (w, at) = (words(seed, stream, i / 2), (i % 2 * 2) as usize);
            unit(w[at], w[at + 1])
        }
    }
}

/// Normal element `i`, likewise.
pub fn normal(seed: u64, stream: u64, i: u64, is_single: bool) -> f64 {
    let (x, v) = match is_single {
        true => {
            let (w, at) = (words(seed, stream, i / 4), (i % 4 / 2 * 2) as usize);
            ((w[at] + 1) as f64 / 4_294_967_296.0, w[at + 1] as f64 / 4_294_967_296.0)
        }
        false => {
            let w = words(seed, stream, i / 2);
            (1.0 - unit(w[0], w[1]), unit(w[2], w[3]))
        }
    };
    // The angle from the nearest quarter of a turn, which is exact.
    let quarters = (4.0 * v).round();
    let (sin, cos) = (std::f64::consts::FRAC_PI_2 * (4.0 * v - quarters)).sin_cos();
    let (sin, cos) = [(sin, cos), (cos, -sin), (-sin, -cos), (-cos, sin)][quarters as usize % 4];
    (-2.0 * x.ln()).sqrt() * if i.is_multiple_of(2) { cos } else { sin }
}
