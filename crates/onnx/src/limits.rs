//! How much of a stranger's file is read.

use bytes::Bytes;
use prost::Message as _;

use crate::error::OnnxError;
use crate::proto::{Graph, Model};

/// How large a file may be that is read as a whole. Messages that lie more than 100 deep in each other are refused in
/// any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of the file in bytes. Files of more than 2 GiB are no valid protocol buffers.
    pub bytes: usize,
    /// Nodes, those of inner graphs among them.
    pub nodes: usize,
    /// How deep graphs lie in each other; 1 for a graph without inner ones.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 31, nodes: 200_000, depth: 8 }
    }
}

impl Model {
    /// Reads a whole file; weights share its bytes.
    ///
    /// # Errors
    /// [`OnnxError::TooLarge`], and [`OnnxError::Malformed`] for what is no model or has tensors of impossible shapes.
    pub fn read(file: Bytes, limits: &Limits) -> Result<Self, OnnxError> {
        within("bytes", file.len(), limits.bytes)?;
        let model = Self::decode(file)?;
        let mut level: Vec<&Graph> = model.graph.iter().collect();
        let (mut depth, mut nodes) = (0, 0);
        while !level.is_empty() {
            depth += 1;
            within("levels of graphs", depth, limits.depth)?;
            let mut inner = Vec::new();
            for graph in level {
                nodes += graph.node.len();
                within("nodes", nodes, limits.nodes)?;
                graph.initializer.iter().try_for_each(|tensor| tensor.len().map(drop))?;
                let attributes = graph.node.iter().flat_map(|node| &node.attribute);
                for attribute in attributes {
                    attribute.t.iter().try_for_each(|tensor| tensor.len().map(drop))?;
                    inner.extend(attribute.g.iter().chain(&attribute.graphs));
                }
            }
            level = inner;
        }
        Ok(model)
    }
}

fn within(what: &'static str, found: usize, most: usize) -> Result<(), OnnxError> {
    if found > most { Err(OnnxError::TooLarge { what, found, most }) } else { Ok(()) }
}
