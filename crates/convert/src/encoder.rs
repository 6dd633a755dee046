//! The graph of a transformer's encoder (Devlin et al. 2019), and of a head on a text's first vector.

use headstart_onnx::proto::{Attribute, Dimension, element};

use crate::Precision;
use crate::builder::{Builder, Plan};
use crate::config::{Activation, Config};
use crate::error::ConvertError;
use crate::names::Head;
use crate::relative;
use crate::weights::Weights;

/// Far below any score, yet finite: a row whose mask is all zero stays a number.
const MASKED: f32 = -1e9;

const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const SEGMENTS: &str = "token_type_ids";

const HIDDEN: &str = "last_hidden_state";
const LOGITS: &str = "logits";

/// The graph while it grows. Hidden states are `[N · L, width]` throughout, so that every projection is one product.
pub(crate) struct Encoder<'a> {
    config: &'a Config,
    graph: Builder<'a>,
    /// Whether segments are read; a model of one segment has its vector added everywhere.
    segments: bool,
}

/// Shapes that nodes refer to.
struct Shapes {
    per_head: String,
    output: String,
    rows: String,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(
        config: &'a Config,
        weights: &'a Weights,
        precision: Precision,
    ) -> Result<Self, ConvertError> {
        let segments = config.family.has_segments() && {
            let name = weights.inside("embeddings.token_type_embeddings.weight");
            weights.shape(&name)?.first().is_some_and(|rows| *rows > 1)
        };
        Ok(Self { config, graph: Builder::new(weights, precision), segments })
    }

    pub(crate) fn plan(mut self) -> Result<Plan, ConvertError> {
        let shapes = self.shapes();
        let mut hidden = self.embeddings(&shapes)?;
        let bias = self.bias()?;
        for number in 0..self.config.layers {
            hidden = self.layer(number, &hidden, &bias, &shapes)?;
        }
        let inputs = if self.segments { &[IDS, MASK, SEGMENTS][..] } else { &[IDS, MASK] };
        if !self.config.classifies {
            self.graph.node("Reshape", &[&hidden, &shapes.output], HIDDEN, vec![]);
            let dims = vec![Dimension::named("N"), Dimension::named("L"), Dimension::of(self.config.width)];
            return Ok(self.graph.finish(inputs, HIDDEN, dims));
        }
        let tokens = self.graph.node("Reshape", &[&hidden, &shapes.output], "tokens", vec![]);
        let classes = self.head(&tokens)?;
        Ok(self.graph.finish(inputs, LOGITS, vec![Dimension::named("N"), Dimension::of(classes)]))
    }

    fn shapes(&mut self) -> Shapes {
        let (width, heads) = (self.config.width as i64, self.config.heads as i64);
        let shape = self.graph.node("Shape", &[IDS], "input_shape", vec![]);
        let per_head = self.graph.integers(&[heads, width / heads]);
        let output = self.graph.integers(&[width]);
        let mut join = |behind: &str, name: &str| {
            self.graph.node("Concat", &[&shape, behind], name, vec![Attribute::int("axis", 0)])
        };
        let (per_head, output) = (join(&per_head, "per_head_shape"), join(&output, "output_shape"));
        Shapes { per_head, output, rows: self.graph.integers(&[-1, width]) }
    }

    /// Vectors of words, segments and positions, summed and normalised.
    fn embeddings(&mut self, shapes: &Shapes) -> Result<String, ConvertError> {
        let width = self.config.width;
        let words = self.graph.weights().inside("embeddings.word_embeddings.weight");
        let vocabulary = self.table_rows(&words)?;
        let mut sum = self.graph.rows(&words, [vocabulary, width], IDS, "words")?;
        if self.config.family.has_segments() {
            let table = self.graph.weights().inside("embeddings.token_type_embeddings.weight");
            let rows = self.table_rows(&table)?;
            let segments = if self.segments {
                self.graph.rows(&table, [rows, width], SEGMENTS, "segments")?
            } else {
                self.graph.matrix(&table, [rows, width], 1.0)?
            };
            sum = self.graph.node("Add", &[&sum, &segments], "words_and_segments", vec![]);
        }
        let positions = self.positions()?;
        sum = self.graph.node("Add", &[&sum, &positions], "embeddings", vec![]);
        let flat = self.graph.node("Reshape", &[&sum, &shapes.rows], "embeddings.flat", vec![]);
        self.norm("embeddings.LayerNorm", &flat)
    }

    /// Vectors of positions: `[L, width]`, or `[N, L, width]` where they are counted over tokens that are no padding.
    fn positions(&mut self) -> Result<String, ConvertError> {
        let table = self.graph.weights().inside("embeddings.position_embeddings.weight");
        let dims = [self.table_rows(&table)?, self.config.width];
        let graph = &mut self.graph;
        if !self.config.family.counts_from_padding() {
            let length = length(graph);
            let places = range(graph, &length, "places");
            return graph.rows(&table, dims, &places, "positions");
        }
        let padding = graph.integer(self.config.padding);
        let same = graph.node("Equal", &[IDS, &padding], "is_padding", vec![]);
        let real = graph.node("Not", &[&same], "is_token", vec![]);
        let to = Attribute::int("to", i64::from(element::INT64));
        let real = graph.node("Cast", &[&real], "token_ones", vec![to]);
        let axis = graph.integer(1);
        let counted = graph.node("CumSum", &[&real, &axis], "tokens_so_far", vec![]);
        let counted = graph.node("Mul", &[&counted, &real], "token_numbers", vec![]);
        let places = graph.node("Add", &[&counted, &padding], "places", vec![]);
        graph.rows(&table, dims, &places, "positions")
    }

    /// What attention scores get added: 0 where the mask is 1, [`MASKED`] where it is 0, `[N, 1, 1, L]`; and where the
    /// family has one, the bias of each head by distance.
    fn bias(&mut self) -> Result<String, ConvertError> {
        let graph = &mut self.graph;
        let to = Attribute::int("to", i64::from(element::FLOAT));
        let kept = graph.node("Cast", &[MASK], "mask", vec![to]);
        let axes = graph.integers(&[1, 2]);
        let kept = graph.node("Unsqueeze", &[&kept, &axes], "mask.spread", vec![]);
        let (one, masked) = (graph.number(1.0), graph.number(MASKED));
        let dropped = graph.node("Sub", &[&one, &kept], "mask.dropped", vec![]);
        let bias = graph.node("Mul", &[&dropped, &masked], "mask.bias", vec![]);
        let source = graph.weights().inside("encoder.relative_attention_bias.weight");
        if graph.weights().shape(&source).is_err() {
            return Ok(bias);
        }
        let distances = self.distances(&source)?;
        Ok(self.graph.node("Add", &[&bias, &distances], "bias", vec![]))
    }

    /// The bias of each head by distance, `[1, heads, L, L]`: a table of all distances, and for each pair its row.
    fn distances(&mut self, source: &str) -> Result<String, ConvertError> {
        let (heads, buckets) = (self.config.heads, self.config.buckets);
        let table = self.graph.weights().inside("embeddings.position_embeddings.weight");
        let places = self.table_rows(&table)?;
        let found = self.graph.weights().shape(source)?;
        if found != [buckets, heads] {
            let (name, found) = (source.to_owned(), found.to_vec());
            return Err(ConvertError::Shape { name, found, expected: vec![buckets, heads] });
        }
        let by_distance =
            relative::by_distance(&self.graph.weights().values(source)?, buckets, heads, places);
        let graph = &mut self.graph;
        let table = graph.floats("distance_bias", &[2 * places - 1, heads], by_distance);
        let length = length(graph);
        let range = range(graph, &length, "distance.places");
        let (zero, one) = (graph.integers(&[0]), graph.integers(&[1]));
        let keys = graph.node("Unsqueeze", &[&range, &zero], "distance.keys", vec![]);
        let queries = graph.node("Unsqueeze", &[&range, &one], "distance.queries", vec![]);
        let apart = graph.node("Sub", &[&keys, &queries], "distance", vec![]);
        let middle = graph.integer(places as i64 - 1);
        let rows = graph.node("Add", &[&apart, &middle], "distance.rows", vec![]);
        let chosen = graph.node("Gather", &[&table, &rows], "distance.chosen", vec![]);
        let order = vec![Attribute::ints("perm", vec![2, 0, 1])];
        Ok(graph.node("Transpose", &[&chosen], "distance.bias", order))
    }

    /// One layer: attention and two projections, each with its residual and norm.
    fn layer(
        &mut self,
        number: usize,
        source: &str,
        bias: &str,
        shapes: &Shapes,
    ) -> Result<String, ConvertError> {
        let names = self.config.family.layer(number);
        let width = self.config.width;
        let scale = ((width / self.config.heads) as f32).sqrt().recip();
        // The scale of scores is taken into the queries' projection.
        let query = self.projection(&names.query, source, [width, width], scale)?;
        let key = self.projection(&names.key, source, [width, width], 1.0)?;
        let value = self.projection(&names.value, source, [width, width], 1.0)?;
        let at = format!("layer.{number}");
        let query = self.per_head(&query, shapes, vec![0, 2, 1, 3]);
        let key = self.per_head(&key, shapes, vec![0, 2, 3, 1]);
        let value = self.per_head(&value, shapes, vec![0, 2, 1, 3]);
        let graph = &mut self.graph;
        let scores = graph.node("MatMul", &[&query, &key], &format!("{at}.scores"), vec![]);
        let scores = graph.node("Add", &[&scores, bias], &format!("{at}.scores.biased"), vec![]);
        let last = vec![Attribute::int("axis", -1)];
        let shares = graph.node("Softmax", &[&scores], &format!("{at}.shares"), last);
        let context = graph.node("MatMul", &[&shares, &value], &format!("{at}.context.heads"), vec![]);
        let order = vec![Attribute::ints("perm", vec![0, 2, 1, 3])];
        let context = graph.node("Transpose", &[&context], &format!("{at}.context.tokens"), order);
        let context = graph.node("Reshape", &[&context, &shapes.rows], &format!("{at}.context"), vec![]);
        let attended = self.projection(&names.attended, &context, [width, width], 1.0)?;
        let sum = self.graph.node("Add", &[&attended, source], &format!("{at}.attended"), vec![]);
        let attended = self.norm(&names.attention_norm, &sum)?;
        let wide = self.table_rows(&self.graph.weights().inside(&format!("{}.weight", names.inner)))?;
        let inner = self.projection(&names.inner, &attended, [wide, width], 1.0)?;
        let inner = self.activation(&inner, &format!("{at}.active"));
        let outer = self.projection(&names.outer, &inner, [width, wide], 1.0)?;
        let sum = self.graph.node("Add", &[&outer, &attended], &format!("{at}.sum"), vec![]);
        self.norm(&names.norm, &sum)
    }

    fn per_head(&mut self, source: &str, shapes: &Shapes, order: Vec<i64>) -> String {
        let split =
            self.graph.node("Reshape", &[source, &shapes.per_head], &format!("{source}.split"), vec![]);
        let order = vec![Attribute::ints("perm", order)];
        self.graph.node("Transpose", &[&split], &format!("{source}.heads"), order)
    }

    /// A product with a matrix `[out, in]`, and a vector added; both of the encoder.
    fn projection(
        &mut self,
        name: &str,
        source: &str,
        dims: [usize; 2],
        scale: f32,
    ) -> Result<String, ConvertError> {
        let [weight, bias] =
            ["weight", "bias"].map(|part| self.graph.weights().inside(&format!("{name}.{part}")));
        self.product(&weight, &bias, source, dims, scale)
    }

    fn product(
        &mut self,
        weight: &str,
        bias: &str,
        source: &str,
        dims: [usize; 2],
        scale: f32,
    ) -> Result<String, ConvertError> {
        let matrix = self.graph.matrix(weight, dims, scale)?;
        let vector = self.graph.vector(bias, dims[0], scale)?;
        let attributes = vec![Attribute::int("transB", 1)];
        let output = format!("{}.product", weight.trim_end_matches(".weight"));
        Ok(self.graph.node("Gemm", &[source, &matrix, &vector], &output, attributes))
    }

    fn norm(&mut self, name: &str, source: &str) -> Result<String, ConvertError> {
        let [scale, shift] =
            ["weight", "bias"].map(|part| self.graph.weights().inside(&format!("{name}.{part}")));
        let scale = self.graph.vector(&scale, self.config.width, 1.0)?;
        let shift = self.graph.vector(&shift, self.config.width, 1.0)?;
        let attributes = vec![Attribute::int("axis", -1), Attribute::number("epsilon", self.config.epsilon)];
        let output = format!("{name}.normal");
        Ok(self.graph.node("LayerNormalization", &[source, &scale, &shift], &output, attributes))
    }

    fn activation(&mut self, source: &str, output: &str) -> String {
        let graph = &mut self.graph;
        match self.config.activation {
            Activation::Gelu => graph.node("Gelu", &[source], output, vec![]),
            Activation::GeluByTanh => {
                graph.node("Gelu", &[source], output, vec![Attribute::string("approximate", "tanh")])
            }
            Activation::Relu => graph.node("Relu", &[source], output, vec![]),
            Activation::Silu => {
                let share = graph.node("Sigmoid", &[source], &format!("{output}.share"), vec![]);
                graph.node("Mul", &[source, &share], output, vec![])
            }
        }
    }

    /// Logits of each text from its first token's vector; the number of classes.
    fn head(&mut self, tokens: &str) -> Result<usize, ConvertError> {
        let Head { dense, dense_is_inside, activation, classes } = self.config.family.head();
        let width = self.config.width;
        let first = self.graph.integer(0);
        let axis = vec![Attribute::int("axis", 1)];
        let first = self.graph.node("Gather", &[tokens, &first], "first_token", axis);
        let named = |part: &str| {
            let name = format!("{dense}.{part}");
            if dense_is_inside { self.graph.weights().inside(&name) } else { name }
        };
        let (weight, bias) = (named("weight"), named("bias"));
        let pooled = self.product(&weight, &bias, &first, [width, width], 1.0)?;
        let pooled = self.graph.node(activation, &[&pooled], "pooled", vec![]);
        let (weight, bias) = (format!("{classes}.weight"), format!("{classes}.bias"));
        let count = self.table_rows(&weight)?;
        let logits = self.product(&weight, &bias, &pooled, [count, width], 1.0)?;
        self.graph.node("Identity", &[&logits], LOGITS, vec![]);
        Ok(count)
    }

    /// Rows of a matrix, which the configuration need not say.
    fn table_rows(&self, name: &str) -> Result<usize, ConvertError> {
        let shape = self.graph.weights().shape(name)?;
        shape
            .first()
            .copied()
            .filter(|rows| *rows > 0)
            .ok_or_else(|| ConvertError::Values { name: name.to_owned(), problem: "has no rows".to_owned() })
    }
}

/// Tokens of each text, an integer without dimensions.
fn length(graph: &mut Builder<'_>) -> String {
    let one = graph.integer(1);
    graph.node("Gather", &["input_shape", &one], "input_length", vec![])
}

/// 0, 1, … of so many.
fn range(graph: &mut Builder<'_>, length: &str, output: &str) -> String {
    let (zero, one) = (graph.integer(0), graph.integer(1));
    graph.node("Range", &[&zero, length, &one], output, vec![])
}
