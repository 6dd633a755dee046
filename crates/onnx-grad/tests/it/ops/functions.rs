//! Functions of one number, applied to each element.

use headstart_onnx::proto::{Attribute, Node, element};

use crate::support::case::{Case, Kernels};

/// Away from a kink at 0.
fn split(random: f64) -> f64 {
    random + 0.2 * random.signum()
}

/// Between 0.5 and 2.5.
fn positive(random: f64) -> f64 {
    random + 1.5
}

/// The error function, by its series.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn smooth_functions_have_their_derivatives() {
    for op in ["Exp", "Neg", "Tanh", "Sigmoid", "Identity"] {
        Case::op(op).input_of("x", "N,7", |random| 2.0 * random).check();
    }
    Case::op("Erf").function(erf).input_of("x", "N,7", |random| 2.0 * random).check();
    Case::op("Softplus").function(|x| x.exp().ln_1p()).input_of("x", "N,7", |random| 2.0 * random).check();
    for op in ["Log", "Sqrt", "Reciprocal"] {
        Case::op(op).input_of("x", "N,7", positive).check();
    }
}

#[test]
fn functions_with_kinks_have_their_derivatives_beside_them() {
    for op in ["Relu", "Abs"] {
        Case::op(op).input_of("x", "N,7", split).check();
    }
    let beside = |case: Case, function| case.function(function).input_of("x", "N,7", split).check();
    beside(Case::op("LeakyRelu"), |x| if x > 0.0 { x } else { 0.01 * x });
    let steep = Case::op("LeakyRelu").attribute(Attribute::number("alpha", 0.25));
    beside(steep, |x| if x > 0.0 { x } else { 0.25 * x });
    beside(Case::op("Elu"), |x| if x > 0.0 { x } else { x.exp_m1() });
    let steep = Case::op("Elu").attribute(Attribute::number("alpha", 0.75));
    beside(steep, |x| if x > 0.0 { x } else { 0.75 * x.exp_m1() });
    Case::op("PRelu").kernels(Kernels::Single).input_of("x", "N,3,L", split).input("slope", "3,1").check();
    Case::op("HardSigmoid")
        .function(|x| (0.2 * x + 0.5).clamp(0.0, 1.0))
        .input_of("x", "N,9", |r| 4.0 * r)
        .check();
    let told = [Attribute::number("alpha", 0.4), Attribute::number("beta", 0.3)];
    let case = Case::op("HardSigmoid").attribute(told[0].clone()).attribute(told[1].clone());
    case.function(|x| (0.4 * x + 0.3).clamp(0.0, 1.0)).input_of("x", "N,9", |random| 4.0 * random).check();
    let swish = |x: f64| x * (x / 6.0 + 0.5).clamp(0.0, 1.0);
    Case::op("HardSwish").function(swish).input_of("x", "N,9", |random| 5.0 * random).check();
}

#[test]
fn functions_that_jump_pass_no_gradient_beside_their_jumps() {
    // Off the multiples of a half by a tenth or more.
    let between = |random: f64| (6.0 * random).floor() / 2.0 + 0.1 + 0.3 * random.abs();
    for op in ["Ceil", "Floor", "Round", "Sign"] {
        // Multiplied by what it reads, so that the loss depends on that.
        let product = Node::new("Mul", &["made0", "x"], &["y"], Vec::new());
        Case::op(op).behind(vec![product]).input_of("x", "N,9", between).check();
    }
}

#[test]
fn a_cast_gives_its_gradient_back_in_the_type_of_what_it_read() {
    let to = |kind: i32| {
        let same = Node::new("Identity", &["x"], &["made0"], Vec::new());
        Case::op("Cast").attribute(Attribute::int("to", i64::from(kind))).reference(vec![same], Vec::new())
    };
    for opset in [13, 18, 19, 21, 23, 24, 25] {
        to(element::DOUBLE).opset(opset).input("x", "N,5").check();
        to(element::FLOAT).opset(opset).double("x", "N,5").check();
        to(element::FLOAT).opset(opset).input("x", "N,5").check();
    }
}

#[test]
fn a_dropout_drops_nothing_and_one_that_would_is_refused() {
    for opset in [13, 18, 21, 22, 25] {
        let case = || Case::op("Dropout").opset(opset).input("x", "N,5");
        let rated = || case().constant("ratio", "", |_| 0.5);
        case().check();
        rated().check();
        rated().flag("mode", false).check();
        rated().outputs(2).read(&[0]).check();
        let refused = rated().flag("mode", true).differentiate(element::FLOAT).unwrap_err().to_string();
        assert!(refused.contains("`Dropout`") && refused.contains("it drops elements"), "{refused}");
    }
}

#[test]
fn gelu_has_its_derivative_exact_and_approximate_and_of_either_set() {
    let exact = |x: f64| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
    Case::op("Gelu").function(exact).input_of("x", "N,9", |random| 3.0 * random).check();
    Case::op("Gelu")
        .domain("com.microsoft")
        .function(exact)
        .input_of("x", "N,9", |random| 3.0 * random)
        .check();
    // This one the runtime takes apart, and so has it in 64 bits.
    let approximate = Case::op("Gelu").attribute(Attribute::string("approximate", "tanh"));
    approximate.input_of("x", "N,9", |random| 3.0 * random).check();
}

#[test]
fn clip_passes_what_is_inside_its_bounds() {
    let bounds = |case: Case| case.input_of("x", "N,9", |random| 2.0 * random);
    let low = |case: Case| case.constant("low", "", |_| -0.75);
    let high = |case: Case| case.constant("high", "", |_| 0.5);
    high(low(bounds(Case::op("Clip")))).check();
    low(bounds(Case::op("Clip"))).check();
    high(bounds(Case::op("Clip")).left_out()).check();
    bounds(Case::op("Clip")).check();
    high(low(bounds(Case::op("Clip").opset(11).kernels(Kernels::Single)))).check();
}

#[test]
fn a_softmax_and_its_logarithm_have_their_gradients_along_any_axis() {
    for axis in [-1, 1, 0] {
        for op in ["Softmax", "LogSoftmax"] {
            Case::op(op).attribute(Attribute::int("axis", axis)).input("x", "N,3,L").check();
        }
    }
    Case::op("Softmax").input("x", "N,L").check();
}
