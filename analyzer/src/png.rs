//! Drawings as PNG files, of twice the size, in the light theme.
//!
//! The font is part of the program, so that a cluster node without any gives the same picture.

use anyhow::{Context as _, Result};
use tiny_skia::{
    FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, StrokeDash, Transform,
};
use ttf_parser::{Face, OutlineBuilder};

use crate::plot::{Anchor, Ink, Mark, Point, Scene};

/// Pixels of the file for one of the drawing.
const PIXELS: f32 = 2.0;

/// A drawing as the bytes of a PNG file.
pub fn encode(scene: &Scene) -> Result<Vec<u8>> {
    let size = |length: f64| pixel(length.ceil()) * PIXELS;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "drawings are some thousand pixels wide"
    )]
    let (width, height) = (size(scene.width) as u32, size(scene.height) as u32);
    let mut pixmap =
        Pixmap::new(width.max(1), height.max(1)).context("the drawing is too large")?;
    let [red, green, blue] = Ink::Paper.rgb();
    pixmap.fill(tiny_skia::Color::from_rgba8(red, green, blue, 255));
    let font = Face::parse(epaint_default_fonts::UBUNTU_LIGHT, 0).context("the built-in font")?;
    for mark in &scene.marks {
        draw(&mut pixmap, &font, mark);
    }
    Ok(pixmap.encode_png()?)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "pixels need no double precision"
)]
fn pixel(x: f64) -> f32 {
    x as f32
}

fn paint(ink: Ink, opacity: f64) -> Paint<'static> {
    let [red, green, blue] = ink.rgb();
    let mut paint = Paint::default();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 255"
    )]
    let alpha = (255.0 * opacity.clamp(0.0, 1.0)) as u8;
    paint.set_color_rgba8(red, green, blue, alpha);
    paint.anti_alias = true;
    paint
}

fn draw(pixmap: &mut Pixmap, font: &Face<'_>, mark: &Mark) {
    let scale = Transform::from_scale(PIXELS, PIXELS);
    match mark {
        Mark::Line {
            points,
            ink,
            width,
            opacity,
            is_dashed,
        } => {
            let stroke = Stroke {
                width: pixel(*width),
                line_join: LineJoin::Round,
                dash: is_dashed
                    .then(|| StrokeDash::new(vec![4.0, 3.0], 0.0))
                    .flatten(),
                ..Stroke::default()
            };
            if let Some(path) = lines(points) {
                pixmap.stroke_path(&path, &paint(*ink, *opacity), &stroke, scale, None);
            }
        }
        Mark::Strokes {
            strokes,
            ink,
            width,
            opacity,
            is_round,
        } => {
            let stroke = Stroke {
                width: pixel(*width),
                line_cap: if *is_round {
                    LineCap::Round
                } else {
                    LineCap::Butt
                },
                ..Stroke::default()
            };
            for (from, to) in strokes {
                // A stroke of no length has no direction.
                let to = if from == to { (to.0 + 0.01, to.1) } else { *to };
                if let Some(path) = lines(&[*from, to]) {
                    pixmap.stroke_path(&path, &paint(*ink, *opacity), &stroke, scale, None);
                }
            }
        }
        Mark::Area {
            points,
            ink,
            opacity,
            ..
        } => {
            if let Some(path) = lines(points) {
                let paint = paint(*ink, *opacity);
                pixmap.fill_path(&path, &paint, FillRule::Winding, scale, None);
            }
        }
        Mark::Words { .. } => draw_words(pixmap, font, mark, scale),
    }
}

fn draw_words(pixmap: &mut Pixmap, font: &Face<'_>, mark: &Mark, scale: Transform) {
    let Mark::Words {
        at,
        text,
        ink,
        size,
        anchor,
        turned,
    } = mark
    else {
        return;
    };
    let Some((path, length)) = words(font, text, pixel(*size)) else {
        return;
    };
    let start = match anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -length / 2.0,
        Anchor::End => -length,
    };
    let place = Transform::from_translate(start, 0.0)
        .post_concat(Transform::from_rotate(pixel(*turned)))
        .post_concat(Transform::from_translate(pixel(at.0), pixel(at.1)))
        .post_concat(scale);
    pixmap.fill_path(&path, &paint(*ink, 1.0), FillRule::Winding, place, None);
}

fn lines(points: &[Point]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (index, point) in points.iter().enumerate() {
        let (x, y) = (pixel(point.0), pixel(point.1));
        if index == 0 {
            builder.move_to(x, y);
        } else {
            builder.line_to(x, y);
        }
    }
    builder.finish()
}

/// The outlines of words on a baseline that starts at the origin, and their length.
fn words(font: &Face<'_>, text: &str, size: f32) -> Option<(Path, f32)> {
    let scale = size / f32::from(font.units_per_em());
    let mut pen = Pen {
        builder: PathBuilder::new(),
        x: 0.0,
        scale,
    };
    for c in text.chars() {
        let Some(glyph) = font.glyph_index(c).or_else(|| font.glyph_index('?')) else {
            continue;
        };
        // A glyph without outline, such as a space, only moves on.
        let _has_outline = font.outline_glyph(glyph, &mut pen).is_some();
        pen.x += f32::from(font.glyph_hor_advance(glyph).unwrap_or(0)) * scale;
    }
    Some((pen.builder.finish()?, pen.x))
}

/// Draws a font's outlines, whose y axis points up, into a path.
struct Pen {
    builder: PathBuilder,
    x: f32,
    scale: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.builder.move_to(x, y);
    }
    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.builder.line_to(x, y);
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.builder.quad_to(x1, y1, x, y);
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.builder.cubic_to(x1, y1, x2, y2, x, y);
    }
    fn close(&mut self) {
        self.builder.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_become_pictures_of_twice_the_size() {
        let mut scene = Scene::new(60.0, 30.0, "x");
        scene.rectangle((0.0, 0.0), (10.0, 30.0), Ink::Bad, 1.0, None);
        scene.words((30.0, 20.0), "Mm×…\u{4e00}", Ink::Text, Anchor::Middle);
        scene.turned_words((50.0, 20.0), "x", Ink::Text, Anchor::Start, -90.0);
        scene.dots([(20.0, 5.0)], Ink::Series(0), 4.0, 1.0);
        let png = encode(&scene).unwrap();
        let picture = Pixmap::decode_png(&png).unwrap();
        assert_eq!((picture.width(), picture.height()), (120, 60));
        let at = |x, y| {
            let pixel = picture.pixel(x, y).unwrap();
            [pixel.red(), pixel.green(), pixel.blue()]
        };
        assert_eq!(at(5, 30), Ink::Bad.rgb());
        assert_eq!(at(40, 10), Ink::Series(0).rgb());
        assert_eq!(at(119, 59), [255; 3]);
        let dark = (40..100).flat_map(|x| (20..40).map(move |y| (x, y)));
        let dark = dark.filter(|(x, y)| at(*x, *y)[0] < 128).count();
        assert!(dark > 40, "the words are there: {dark} dark pixels");
    }
}
