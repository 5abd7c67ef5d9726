//! The prompts that a calibration samples where none are given: sixteen kinds of pictures, so that no one kind decides.

/// Portraits, scenes, objects, drawings; short and long ones.
pub(super) const DEFAULT_PROMPTS: [&str; 16] = [
    "a photo of an astronaut riding a horse on mars",
    "portrait photograph of an old fisherman with a white beard, soft window light, 85mm",
    "a red fox curled up in fresh snow, early morning",
    "an aerial view of a winding river through a green valley, drone photograph",
    "a bowl of ramen with a soft-boiled egg and spring onions on a wooden table",
    "oil painting of a sailing ship in a storm, dramatic clouds, in the style of the romantic era",
    "a narrow street in an old town at night, wet cobblestones, neon reflections",
    "isometric 3d render of a tiny cozy living room, pastel colors",
    "a close-up of a dragonfly on a leaf, macro photography, shallow depth of field",
    "watercolor illustration of a hedgehog reading a book under a mushroom",
    "a modern concrete house on a cliff above the sea at sunset, architectural photography",
    "black and white pencil sketch of two hands holding a paper crane",
    "a steam locomotive crossing a stone viaduct in autumn, volumetric light",
    "three glass bottles with colored liquids on a laboratory bench",
    "pixel art of a knight standing before a dragon in a cave",
    "a crowd at an open-air concert seen from behind, colorful stage lights",
];
