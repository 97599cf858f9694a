//! Drawings as PNG files, of twice the size, in the light theme.
//!
//! The font is part of the program, so that a cluster node without any gives the same picture.

use anyhow::{Context as _, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use crate::plot::{Scene, Theme};

/// Pixels of the file for one of the drawing.
const PIXELS: f32 = 2.0;

/// A drawing as the bytes of a PNG file.
pub(crate) fn png(scene: &Scene) -> Result<Vec<u8>> {
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first());
    let family = family.context("the built-in font")?.0.clone();
    fonts.set_sans_serif_family(family);
    let tree = Tree::from_str(&scene.svg(Theme::Light), &options)?;
    let size = tree.size().to_int_size();
    let size = size.scale_by(PIXELS).context("the drawing is too large")?;
    let mut pixmap =
        Pixmap::new(size.width(), size.height()).context("the drawing is too large")?;
    let scale = Transform::from_scale(PIXELS, PIXELS);
    resvg::render(&tree, scale, &mut pixmap.as_mut());
    Ok(pixmap.encode_png()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Anchor, Ink};

    #[test]
    fn drawings_become_pictures_of_twice_the_size() {
        let mut scene = Scene::new(60.0, 30.0, "x");
        scene.rectangle((0.0, 0.0), (10.0, 30.0), Ink::Bad, 1.0, None);
        scene.words((30.0, 20.0), "Mm×…\u{4e00}", Ink::Text, Anchor::Middle);
        scene.turned_words((50.0, 20.0), "x", Ink::Text, Anchor::Start, -90.0);
        scene.dots([(20.0, 5.0)], Ink::Series(0), 4.0, 1.0);
        let picture = Pixmap::decode_png(&png(&scene).unwrap()).unwrap();
        assert_eq!((picture.width(), picture.height()), (120, 60));
        let at = |x, y| {
            let pixel = picture.pixel(x, y).unwrap();
            [pixel.red(), pixel.green(), pixel.blue()]
        };
        assert_eq!(at(5, 30), [0xb3, 0x26, 0x1e]);
        assert_eq!(at(40, 10), [0x0b, 0x62, 0xa4]);
        assert_eq!(at(119, 59), [255; 3]);
        let dark = (40..100).flat_map(|x| (20..40).map(move |y| (x, y)));
        let dark = dark.filter(|(x, y)| at(*x, *y)[0] < 128).count();
        assert!(dark > 40, "the words are there: {dark} dark pixels");
    }
}
