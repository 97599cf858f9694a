//! A network layer by layer: shapes, parameters and work, without a single weight in memory.

use super::{GroupConfig, NetworkConfig, skip, squeeze_excitation};
use crate::operators::Window;
use data::ImageShape;

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Convolution without bias.
    Convolution,
    /// Batch norm, with the `ReLU` that follows it where one does.
    Norm,
    /// The activation in front of a block's branches, or of the head.
    Activation,
    /// Two tensors become one: channels joined, or values added.
    Join,
    /// Squeeze-and-excitation: channels weighted by a small network.
    SqueezeExcitation,
    /// Mean over all pixels, and the linear map to the classes.
    Head,
}

/// One layer of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where it is, as in `groups.0.blocks.1.branches.0.conv2`.
    pub name: String,
    /// What it does.
    pub kind: LayerKind,
    /// The shape of its output for one image.
    pub output: ImageShape,
    /// How many numbers it learns.
    pub parameters: u64,
    /// Multiplications and additions of the forward pass for one image.
    pub multiply_adds: u64,
    /// Whether training keeps its output until the backward pass.
    pub is_kept: bool,
}

impl Layer {
    /// Numbers in the output for one image.
    pub fn activations(&self) -> u64 {
        let ImageShape {
            channels,
            height,
            width,
        } = self.output;
        count(channels) * count(height) * count(width)
    }
}

/// All layers of a network, in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The layers.
    pub layers: Vec<Layer>,
    /// Groups, counted from 1, that would halve their images but get them with one pixel in height or width, and that
    /// size: height, width.
    pub unhalved: Vec<(usize, [usize; 2])>,
}

impl Summary {
    /// Works out the layers of a network.
    pub fn new(config: &NetworkConfig) -> Self {
        let mut summary = Self {
            layers: Vec::new(),
            unhalved: Vec::new(),
        };
        let stem = Window::same(config.kernel, 1);
        let mut shape =
            summary.convolution("stem".into(), config.image, config.initial_filters, stem);
        summary.norm("stem_norm".into(), shape, true);
        for (index, group) in config.groups.iter().enumerate() {
            for block in 0..group.blocks {
                let stride = match block {
                    0 => NetworkConfig::stride(index, shape.height, shape.width),
                    _ => 1,
                };
                if index > 0 && block == 0 && stride == 1 {
                    summary
                        .unhalved
                        .push((index + 1, [shape.height, shape.width]));
                }
                let name = format!("groups.{index}.blocks.{block}");
                let window = Window::same(config.kernel, stride);
                shape = summary.block(&name, shape, group, window, config.squeeze_excitation);
            }
        }
        summary.activation("relu".into(), shape);
        let (channels, classes) = (count(shape.channels), count(config.classes));
        summary.layers.push(Layer {
            name: "head".into(),
            kind: LayerKind::Head,
            output: ImageShape {
                channels: config.classes,
                height: 1,
                width: 1,
            },
            parameters: channels * classes + classes,
            multiply_adds: channels * classes,
            is_kept: true,
        });
        summary
    }

    /// Numbers that the network learns.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// Multiplications and additions of the forward pass for one image.
    pub fn multiply_adds(&self) -> u64 {
        self.layers.iter().map(|layer| layer.multiply_adds).sum()
    }

    fn block(
        &mut self,
        name: &str,
        input: ImageShape,
        group: &GroupConfig,
        window: Window,
        is_gated: bool,
    ) -> ImageShape {
        let GroupConfig {
            channels, branches, ..
        } = *group;
        self.activation(format!("{name}.relu"), input);
        let inner = Window::same(window.kernel, 1);
        let mut output = input;
        if skip::is_needed(input.channels, channels, window.stride) {
            let (half, rest) = skip::halves(channels);
            let straight = Window::same(1, window.stride);
            if half > 0 {
                self.convolution(format!("{name}.skip.path1"), input, half, straight);
            }
            output = self.convolution(format!("{name}.skip.path2"), input, rest, straight);
            output.channels = channels;
            self.join(format!("{name}.skip.cat"), output, true);
            self.norm(format!("{name}.skip.norm"), output, false);
        }
        for branch in 0..branches {
            let name = format!("{name}.branches.{branch}");
            let middle = self.convolution(format!("{name}.conv1"), input, channels, window);
            self.norm(format!("{name}.norm1"), middle, true);
            let end = self.convolution(format!("{name}.conv2"), middle, channels, inner);
            assert_eq!(end, output, "skip and branch have one shape");
            self.norm(format!("{name}.norm2"), end, is_gated);
            if is_gated {
                self.gate(format!("{name}.gate"), end);
            }
            // Every sum but the last one is overwritten by the next.
            self.join(format!("{name}.add"), end, branch + 1 == branches);
        }
        output
    }

    fn convolution(
        &mut self,
        name: String,
        input: ImageShape,
        channels: usize,
        window: Window,
    ) -> ImageShape {
        let output = ImageShape {
            channels,
            height: window.output(input.height),
            width: window.output(input.width),
        };
        let parameters = count(input.channels) * count(channels) * count(window.kernel).pow(2);
        let multiply_adds = parameters * count(output.height) * count(output.width);
        self.layers.push(Layer {
            name,
            kind: LayerKind::Convolution,
            output,
            parameters,
            multiply_adds,
            is_kept: true,
        });
        output
    }

    fn norm(&mut self, name: String, shape: ImageShape, is_kept: bool) {
        let mut layer = elementwise(name, LayerKind::Norm, shape, is_kept);
        layer.parameters = 2 * count(shape.channels);
        self.layers.push(layer);
    }

    fn gate(&mut self, name: String, shape: ImageShape) {
        let mut layer = elementwise(name, LayerKind::SqueezeExcitation, shape, true);
        let (channels, units) = (
            count(shape.channels),
            count(squeeze_excitation::units(shape.channels)),
        );
        layer.parameters = 2 * channels * units + channels + units;
        layer.multiply_adds += 2 * channels * units;
        self.layers.push(layer);
    }

    fn activation(&mut self, name: String, shape: ImageShape) {
        let mut layer = elementwise(name, LayerKind::Activation, shape, true);
        layer.multiply_adds = 0;
        self.layers.push(layer);
    }

    fn join(&mut self, name: String, shape: ImageShape, is_kept: bool) {
        self.layers
            .push(elementwise(name, LayerKind::Join, shape, is_kept));
    }
}

/// A layer with one multiplication and addition per value and nothing to learn.
fn elementwise(name: String, kind: LayerKind, output: ImageShape, is_kept: bool) -> Layer {
    let mut layer = Layer {
        name,
        kind,
        output,
        parameters: 0,
        multiply_adds: 0,
        is_kept,
    };
    layer.multiply_adds = layer.activations();
    layer
}

fn count(number: usize) -> u64 {
    u64::try_from(number).expect("no machine has more than 64 bits")
}
