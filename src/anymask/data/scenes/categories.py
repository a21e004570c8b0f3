"""The things of the scenes world: what they are called, how common they are, how they look.

A thing is a stack of layers, painted one over the other in the unit square (y points down). Every
layer belongs to a part and has a paint: ``main`` (the colour a phrase names, and the pattern),
``second`` (another colour), a material, or ``cut`` (a hole).
"""

from __future__ import annotations

from dataclasses import dataclass

from anymask.data.scenes.raster import Ellipse, Outline, Polygon, cosine, sine
from anymask.vocabulary import GROUPS, Group


@dataclass(frozen=True)
class Layer:
    """One outline with its part and its paint."""

    part: str
    paint: str
    outline: Outline


@dataclass(frozen=True)
class Thing:
    """A category.

    Attributes:
        name: the word for it; ``plural`` for many.
        kind: the wider word ("animal").
        group: known (labelled in training scenes), seen (present there, never labelled) or unseen
            (never there).
        synonyms: other words for it.
        colors: what it usually has; any colour may occur.
        turns: it may lie at any angle; otherwise it leans a little.
        layers: bottom first.
    """

    name: str
    plural: str
    kind: str
    group: Group
    synonyms: tuple[str, ...]
    colors: tuple[str, ...]
    turns: bool
    layers: tuple[Layer, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its parts, bottom first; part number k of a scene's part map is parts[k - 1]."""
        return tuple(dict.fromkeys(la.part for la in self.layers if la.paint != "cut"))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of all layers in the unit square."""
        boxes = [layer.outline.bounds for layer in self.layers if layer.paint != "cut"]
        x0, y0, x1, y1 = zip(*boxes)
        return min(x0), min(y0), max(x1), max(y1)


# ------------------------------------------------------------------------- outlines in short


def oval(part: str, paint: str, x: float, y: float, rx: float, ry: float | None = None) -> Layer:
    """An ellipse, or a disc when ``ry`` is left out."""
    return Layer(part, paint, Ellipse(x, y, rx, rx if ry is None else ry))


def box(part: str, paint: str, x0: float, y0: float, x1: float, y1: float) -> Layer:
    """A rectangle."""
    return Layer(part, paint, Polygon(((x0, y0), (x1, y0), (x1, y1), (x0, y1))))


def poly(part: str, paint: str, points: str) -> Layer:
    """A polygon from "x,y x,y ..."."""
    pairs = (pair.split(",") for pair in points.split())
    return Layer(part, paint, Polygon(tuple((float(x), float(y)) for x, y in pairs)))


def star(
    part: str, paint: str, tips: int, outer: float, inner: float, x: float = 0, y: float = 0
) -> Layer:
    """A star (a gear, a leaf) with so many tips, the first one up."""
    points = []
    for k in range(2 * tips):
        angle, radius = round(180 * k / tips), inner if k % 2 else outer
        points.append((x + radius * sine(angle), y - radius * cosine(angle)))
    return Layer(part, paint, Polygon(tuple(points)))


def arc(
    part: str, paint: str, x: float, y: float, r: float, width: float, start: int, stop: int
) -> Layer:
    """A band of a circle from one angle to another, clockwise from the top, in degrees."""
    angles = [start + (stop - start) * k // 10 for k in range(11)]
    outer = [(x + r * sine(a), y - r * cosine(a)) for a in angles]
    inner = [(x + (r - width) * sine(a), y - (r - width) * cosine(a)) for a in reversed(angles)]
    return Layer(part, paint, Polygon(tuple(outer + inner)))


def petals(
    part: str, paint: str, count: int, far: float, radius: float, x: float = 0, y: float = 0
) -> tuple[Layer, ...]:
    """A ring of discs."""
    turns = [round(360 * k / count) for k in range(count)]
    return tuple(oval(part, paint, x + far * sine(t), y - far * cosine(t), radius) for t in turns)


def _thing(words: str, group: Group, colors: str, *layers: Layer, turns: bool = False) -> Thing:
    """``words``: "kind: name/plural, synonym, ..."."""
    kind, names = words.split(": ")
    first, *synonyms = names.split(", ")
    name, _, plural = first.partition("/")
    return Thing(
        name,
        plural or name + "s",
        kind,
        group,
        tuple(synonyms),
        tuple(colors.split()),
        turns,
        layers,
    )


# From the most to the least frequent in each group: the world is long-tailed.
# fmt: off
THINGS: tuple[Thing, ...] = (
    _thing(
        "vehicle: car, automobile", "known", "red blue white grey",
        poly("body", "main", "-1,.1 -.95,-.1 -.55,-.15 -.35,-.5 .35,-.5 .6,-.12 1,-.05 1,.35"
             " -1,.35"),
        poly("window", "glass", "-.42,-.13 -.28,-.4 -.03,-.4 -.03,-.13"),
        poly("window", "glass", ".06,-.13 .06,-.4 .3,-.4 .46,-.13"),
        oval("wheel", "dark", -.55, .35, .24), oval("wheel", "dark", .55, .35, .24),
        oval("wheel", "metal", -.55, .35, .1), oval("wheel", "metal", .55, .35, .1),
    ),
    _thing(
        "plant: tree, broadleaf", "known", "green",
        box("trunk", "wood", -.14, .2, .14, 1),
        oval("crown", "main", -.4, -.05, .45, .4), oval("crown", "main", .4, -.05, .45, .4),
        oval("crown", "main", 0, -.45, .55, .5),
    ),
    _thing(
        "animal: fish/fish, goldfish", "known", "orange blue grey",
        poly("tail", "second", ".45,0 1,-.5 .85,0 1,.5"),
        poly("fin", "second", "-.3,-.35 .2,-.65 .3,-.2"),
        oval("body", "main", -.2, 0, .75, .42),
        oval("eye", "light", -.65, -.1, .12), oval("eye", "dark", -.67, -.1, .06),
    ),
    _thing(
        "vessel: mug, cup", "known", "blue white red",
        oval("handle", "main", .6, 0, .38, .42), oval("handle", "cut", .6, 0, .2, .24),
        poly("body", "main", "-.75,-.7 .55,-.7 .5,.8 -.7,.8"),
        oval("opening", "second", -.1, -.7, .65, .14),
    ),
    _thing(
        "fruit: apple", "known", "red green",
        box("stem", "wood", -.05, -.95, .05, -.4),
        oval("leaf", "leaf", .3, -.72, .28, .12),
        oval("flesh", "main", -.3, .15, .55, .7), oval("flesh", "main", .3, .15, .55, .7),
    ),
    _thing(
        "building: house, cottage", "known", "yellow white red",
        box("chimney", "wood", .4, -.95, .62, -.3),
        box("wall", "main", -.75, -.1, .75, .95),
        poly("roof", "second", "-1,-.05 0,-.95 1,-.05"),
        box("door", "wood", -.18, .35, .18, .95),
        box("window", "glass", -.6, .1, -.3, .4), box("window", "glass", .3, .1, .6, .4),
    ),
    _thing(
        "toy: ball, beach ball", "known", "red white",
        oval("ball", "main", 0, 0, .9),
        poly("band", "second", "-.9,0 -.8,-.4 .8,.4 .6,.65"),
        oval("spot", "light", -.35, -.42, .16), turns=True,
    ),
    _thing(
        "symbol: star", "known", "yellow red",
        star("star", "main", 5, 1, .42), turns=True,
    ),
    _thing(
        "furniture: chair, seat", "known", "brown red",
        box("back", "main", -.6, -1, -.38, .2), box("seat", "main", -.6, .05, .6, .28),
        box("leg", "wood", -.6, .28, -.44, 1), box("leg", "wood", .44, .28, .6, 1),
    ),
    _thing(
        "animal: bird, songbird", "known", "blue red brown",
        poly("tail", "second", ".3,.1 1,.15 1,.45 .35,.4"),
        oval("body", "main", 0, .2, .55, .4), oval("head", "main", -.42, -.3, .32),
        poly("beak", "flame", "-.68,-.42 -1,-.25 -.68,-.18"),
        poly("wing", "second", "-.2,.05 .55,-.1 .2,.5"),
        box("leg", "dark", -.12, .55, -.06, .95), box("leg", "dark", .1, .55, .16, .95),
        oval("eye", "dark", -.5, -.36, .07),
    ),
    _thing(
        "vessel: bottle, flask", "known", "green brown blue",
        box("cap", "second", -.16, -1, .16, -.82), box("neck", "main", -.13, -.82, .13, -.3),
        poly("body", "main", "-.13,-.4 .13,-.4 .38,-.08 .38,1 -.38,1 -.38,-.08"),
        box("label", "light", -.38, .25, .38, .68),
    ),
    _thing(
        "plant: flower, daisy", "known", "pink white purple",
        box("stem", "leaf", -.05, 0, .05, 1),
        oval("leaf", "leaf", .3, .65, .28, .1),
        *petals("petal", "main", 6, .36, .25, 0, -.4),
        oval("heart", "flame", 0, -.4, .2),
    ),
    _thing(
        "vehicle: bus/buses, coach", "known", "red yellow",
        box("body", "main", -1, -.6, 1, .5),
        *(box("window", "glass", x, -.42, x + .3, -.02) for x in (-.88, -.5, -.12, .26)),
        box("door", "dark", .64, -.42, .88, .42),
        oval("wheel", "dark", -.58, .5, .2), oval("wheel", "dark", .4, .5, .2),
    ),
    _thing(
        "symbol: heart", "known", "red pink",
        poly("heart", "main", "-.93,-.15 0,-.45 .93,-.15 0,.95"),
        oval("heart", "main", -.46, -.35, .5), oval("heart", "main", .46, -.35, .5),
    ),
    _thing(
        "animal: cat, kitten", "known", "grey orange black",
        poly("ear", "main", "-.8,-.95 -.2,-.5 -.75,-.1"),
        poly("ear", "main", ".8,-.95 .2,-.5 .75,-.1"),
        oval("head", "main", 0, .1, .8, .7),
        oval("eye", "flame", -.32, -.05, .16), oval("eye", "flame", .32, -.05, .16),
        oval("eye", "dark", -.32, -.05, .06, .14), oval("eye", "dark", .32, -.05, .06, .14),
        poly("nose", "second", "-.12,.25 .12,.25 0,.42"),
    ),
    _thing(
        "furniture: table, desk", "known", "brown white",
        box("top", "main", -1, -.35, 1, -.08),
        box("leg", "main", -.85, -.08, -.66, .8), box("leg", "main", .66, -.08, .85, .8),
    ),
    _thing(
        "fruit: banana", "known", "yellow",
        poly("peel", "main", "-.95,-.5 -.78,-.6 -.5,-.1 0,.2 .5,.1 .85,-.3 .98,-.2 .8,.35 .3,.72"
             " -.25,.68 -.7,.3"),
        poly("tip", "dark", "-1,-.62 -.84,-.72 -.76,-.55 -.92,-.45"), turns=True,
    ),
    _thing(
        "vehicle: sailboat, yacht", "known", "white red blue",
        box("mast", "wood", -.05, -1, .05, .4),
        poly("sail", "main", ".1,-.9 .1,.2 .85,.2"),
        poly("sail", "second", "-.1,-.6 -.1,.2 -.7,.2"),
        poly("hull", "wood", "-1,.35 1,.35 .65,.85 -.65,.85"),
    ),
    _thing(
        "symbol: moon, crescent", "known", "yellow white",
        oval("moon", "main", 0, 0, .92), oval("moon", "cut", .42, -.1, .72), turns=True,
    ),
    _thing(
        "plant: mushroom, toadstool", "known", "red brown",
        oval("cap", "main", 0, -.1, .95, .8), box("cap", "cut", -1, .12, 1, .8),
        poly("stem", "light", "-.25,.1 .25,.1 .34,.95 -.34,.95"),
        oval("dot", "light", -.45, -.35, .15), oval("dot", "light", .2, -.55, .18),
        oval("dot", "light", .52, -.15, .13),
    ),
    _thing(
        "clothing: hat, top hat", "known", "black purple",
        box("crown", "main", -.5, -.9, .5, .45), box("band", "second", -.5, .1, .5, .4),
        oval("brim", "main", 0, .5, 1, .22),
    ),
    _thing(
        "tool: key", "known", "yellow grey",
        oval("bow", "main", -.6, 0, .4), oval("bow", "cut", -.6, 0, .2),
        box("shaft", "main", -.25, -.09, 1, .09),
        box("bit", "main", .55, .05, .68, .4), box("bit", "main", .85, .05, 1, .33), turns=True,
    ),
    _thing(
        "animal: butterfly/butterflies, moth", "known", "orange blue purple",
        oval("wing", "main", -.5, -.4, .48, .45), oval("wing", "main", .5, -.4, .48, .45),
        oval("wing", "second", -.4, .42, .36, .4), oval("wing", "second", .4, .42, .36, .4),
        oval("body", "dark", 0, 0, .11, .8), turns=True,
    ),
    _thing(
        "vehicle: truck, lorry", "known", "blue red white",
        box("box", "main", -1, -.65, .35, .42),
        poly("cab", "second", ".4,-.3 .78,-.3 1,.05 1,.42 .4,.42"),
        poly("window", "glass", ".5,-.18 .73,-.18 .88,.08 .5,.08"),
        oval("wheel", "dark", -.65, .45, .22), oval("wheel", "dark", -.12, .45, .22),
        oval("wheel", "dark", .7, .45, .22),
    ),
    _thing(
        "vessel: teapot, kettle", "known", "white pink blue",
        poly("spout", "main", "-.5,.25 -1,-.4 -.82,-.48 -.4,-.15"),
        oval("handle", "main", .68, .08, .32, .42), oval("handle", "cut", .68, .08, .17, .26),
        oval("body", "main", 0, .18, .65, .6), oval("lid", "second", 0, -.4, .38, .14),
        oval("knob", "second", 0, -.6, .11),
    ),
    _thing(
        "toy: kite", "known", "red green yellow",
        poly("tail", "dark", "-.03,.45 .03,.45 .2,.75 -.05,1 -.08,.93 .1,.74"),
        poly("sail", "main", "0,-1 .62,-.3 0,.5 -.62,-.3"),
        poly("cross", "second", "-.04,-1 .04,-1 .04,.5 -.04,.5"),
        box("cross", "second", -.6, -.34, .6, -.26), turns=True,
    ),
    _thing(
        "furniture: lamp, table lamp", "known", "yellow white red",
        box("pole", "metal", -.06, -.2, .06, .8), oval("foot", "metal", 0, .85, .48, .14),
        poly("shade", "main", "-.38,-1 .38,-1 .75,-.1 -.75,-.1"),
    ),
    _thing(
        "animal: snail", "known", "brown grey",
        poly("body", "second", "-1,.35 -.85,-.2 -.6,-.2 -.55,.3 .95,.62 .95,.8 -.85,.8"),
        poly("feeler", "second", "-.9,-.15 -1,-.65 -.92,-.65 -.8,-.15"),
        poly("feeler", "second", "-.7,-.15 -.65,-.65 -.57,-.65 -.6,-.15"),
        oval("shell", "main", .15, .08, .6), oval("spiral", "dark", .18, .1, .36),
        oval("spiral", "main", .22, .12, .24), oval("spiral", "dark", .22, .12, .1),
    ),
    _thing(
        "fruit: cherry/cherries", "known", "red",
        poly("stem", "leaf", "-.45,.4 -.05,-.95 .03,-.95 -.37,.4"),
        poly("stem", "leaf", ".42,.3 -.03,-.95 .05,-.95 .5,.3"),
        oval("fruit", "main", -.45, .55, .42), oval("fruit", "main", .5, .5, .42),
        oval("shine", "light", -.58, .4, .1), oval("shine", "light", .36, .36, .1),
    ),
    _thing(
        "tool: umbrella, parasol", "known", "blue red purple",
        oval("canopy", "main", 0, 0, .98, .9), box("canopy", "cut", -1, 0, 1, .95),
        poly("panel", "second", "-.3,0 0,-.9 .3,0"),
        box("pole", "dark", -.05, 0, .05, .8), arc("handle", "dark", .15, .78, .2, .1, 90, 270),
    ),
    _thing(
        "symbol: arrow, pointer", "known", "red black",
        poly("arrow", "main", "-1,-.2 .2,-.2 .2,-.6 1,0 .2,.6 .2,.2 -1,.2"), turns=True,
    ),
    _thing(
        "toy: snowman/snowmen", "known", "white",
        oval("body", "main", 0, .5, .55, .5), oval("head", "main", 0, -.25, .36),
        box("hat", "dark", -.25, -.95, .25, -.5), box("hat", "dark", -.4, -.58, .4, -.46),
        poly("nose", "flame", "0,-.3 .38,-.2 0,-.16"),
        oval("button", "dark", 0, .3, .07), oval("button", "dark", 0, .58, .07),
        oval("eye", "dark", -.13, -.36, .05), oval("eye", "dark", .13, -.36, .05),
    ),
    _thing(
        "food: ice cream, ice cream cone", "known", "pink white brown",
        poly("cone", "wood", "-.48,-.05 .48,-.05 0,1"),
        oval("scoop", "main", 0, -.3, .55, .5), oval("cherry", "second", .1, -.82, .16),
    ),
    _thing(
        "tool: hammer, mallet", "known", "grey red",
        box("handle", "wood", -.12, -.4, .12, 1),
        poly("head", "main", "-.75,-.95 .5,-.95 .95,-.6 .5,-.45 -.75,-.4"), turns=True,
    ),
    _thing(
        "animal: turtle, tortoise", "known", "green brown",
        oval("head", "second", -.8, .18, .2, .17), oval("leg", "second", -.45, .55, .17, .22),
        oval("leg", "second", .45, .55, .17, .22), poly("tail", "second", ".7,.3 1,.45 .7,.48"),
        oval("shell", "main", 0, .45, .78, .85), box("shell", "cut", -.28, .5, .28, 1.3),
        box("shell", "cut", -.8, .78, .8, 1.3),
        star("pattern", "dark", 3, .3, .15, 0, -.02),
        oval("eye", "dark", -.86, .13, .05),
    ),
    _thing(
        "building: lighthouse, beacon", "known", "red white",
        poly("tower", "main", "-.28,-.4 .28,-.4 .48,1 -.48,1"),
        poly("band", "second", "-.34,-.02 .34,-.02 .39,.32 -.39,.32"),
        box("gallery", "dark", -.4, -.5, .4, -.38), box("lantern", "flame", -.22, -.78, .22, -.5),
        poly("roof", "dark", "-.32,-.78 0,-1 .32,-.78"),
    ),
    _thing(
        "toy: balloon", "known", "red blue yellow",
        poly("string", "dark", "-.03,.4 .03,.4 .1,.7 -.03,1 -.08,.98 .04,.7"),
        poly("knot", "main", "-.12,.5 0,.36 .12,.5"),
        oval("balloon", "main", 0, -.3, .58, .7), oval("shine", "light", -.25, -.55, .11, .18),
    ),
    _thing(
        "symbol: cross/crosses, plus sign", "known", "red white",
        poly("cross", "main", "-.3,-.95 .3,-.95 .3,-.3 .95,-.3 .95,.3 .3,.3 .3,.95 -.3,.95 -.3,.3"
             " -.95,.3 -.95,-.3 -.3,-.3"),
    ),
    _thing(
        "clothing: boot, wellington", "known", "yellow black brown",
        poly("shaft", "main", "-.55,-.95 .1,-.95 .1,.15 .6,.25 .85,.65 -.55,.65"),
        box("cuff", "second", -.6, -1, .15, -.72), box("sole", "dark", -.6, .62, .9, .85),
    ),
    _thing(
        "plant: cactus/cacti", "known", "green",
        oval("arm", "main", -.62, -.3, .16, .3), box("arm", "main", -.78, -.3, -.46, .1),
        box("arm", "main", -.78, -.05, .1, .24),
        oval("arm", "main", .62, -.5, .16, .26), box("arm", "main", .46, -.5, .78, .3),
        box("arm", "main", 0, .08, .78, .36),
        oval("stem", "main", 0, -.6, .27, .4), box("stem", "main", -.27, -.6, .27, 1),
    ),
    # ----------------------------------------------------------- seen: there, never labelled
    _thing(
        "vehicle: bicycle, bike", "seen", "red blue black",
        oval("wheel", "dark", -.58, .3, .42), oval("wheel", "cut", -.58, .3, .31),
        oval("wheel", "dark", .58, .3, .42), oval("wheel", "cut", .58, .3, .31),
        poly("frame", "main", "-.63,.3 -.25,-.42 -.15,-.42 -.02,-.3 .4,-.42 .36,-.6 .46,-.6 .66,.3"
             " .5,.3 .42,-.25 .08,.36 -.05,.36 -.2,-.22 -.5,.36"),
        box("saddle", "dark", -.4, -.56, -.06, -.42), box("handlebar", "dark", .25, -.7, .6, -.58),
    ),
    _thing(
        "animal: rabbit, bunny", "seen", "white brown grey",
        oval("ear", "main", -.3, -.62, .17, .4), oval("ear", "main", .3, -.62, .17, .4),
        oval("ear", "second", -.3, -.62, .08, .27), oval("ear", "second", .3, -.62, .08, .27),
        oval("head", "main", 0, .3, .62, .62),
        oval("eye", "dark", -.24, .15, .09), oval("eye", "dark", .24, .15, .09),
        oval("nose", "second", 0, .4, .12, .08), box("tooth", "light", -.08, .5, .08, .7),
    ),
    _thing(
        "vessel: wine glass/wine glasses, goblet", "seen", "red yellow",
        poly("bowl", "glass", "-.55,-1 .55,-1 .42,-.2 .12,.08 -.12,.08 -.42,-.2"),
        poly("wine", "main", "-.51,-.7 .51,-.7 .42,-.2 .12,.08 -.12,.08 -.42,-.2"),
        box("stem", "glass", -.06, .05, .06, .85), oval("foot", "glass", 0, .88, .48, .1),
    ),
    _thing(
        "furniture: clock, wall clock", "seen", "white yellow red",
        oval("case", "main", 0, 0, .95), oval("face", "light", 0, 0, .74),
        box("hand", "dark", -.05, -.6, .05, .05), box("hand", "dark", 0, -.05, .42, .05),
        oval("hand", "dark", 0, 0, .09),
    ),
    _thing(
        "fruit: pear", "seen", "green yellow",
        poly("stem", "wood", "-.05,-.6 0,-1 .1,-1 .06,-.6"),
        oval("flesh", "main", 0, .4, .66, .58), oval("flesh", "main", 0, -.28, .36, .45),
        poly("flesh", "main", "-.34,-.2 .34,-.2 .62,.3 -.62,.3"),
    ),
    _thing(
        "tool: scissors/scissors, shears", "seen", "red blue",
        poly("blade", "metal", "-.08,.1 .42,-1 .52,-.92 .12,.2"),
        poly("blade", "metal", ".08,.1 -.42,-1 -.52,-.92 -.12,.2"),
        oval("grip", "main", -.36, .6, .33, .37), oval("grip", "cut", -.36, .6, .17, .21),
        oval("grip", "main", .36, .6, .33, .37), oval("grip", "cut", .36, .6, .17, .21),
        oval("screw", "dark", 0, .1, .09), turns=True,
    ),
    _thing(
        "building: tent", "seen", "orange green blue",
        poly("canvas", "main", "-1,.8 0,-.8 1,.8"), poly("entrance", "dark", "-.3,.8 0,-.1 .3,.8"),
        poly("pole", "wood", "-.12,-1 -.05,-1 .06,-.7 0,-.65"),
        poly("pole", "wood", ".12,-1 .05,-1 -.06,-.7 0,-.65"),
    ),
    _thing(
        "vehicle: airplane, plane", "seen", "white grey blue",
        poly("wing", "second", "-.15,-.1 .2,-.1 -.1,-.95 -.32,-.95"),
        poly("wing", "second", "-.15,.1 .2,.1 -.1,.95 -.32,.95"),
        poly("tail", "second", "-.9,-.05 -.65,-.05 -.82,-.42 -.96,-.42"),
        poly("tail", "second", "-.9,.05 -.65,.05 -.82,.42 -.96,.42"),
        oval("fuselage", "main", 0, 0, 1, .16),
        oval("cockpit", "glass", .76, 0, .1, .08), turns=True,
    ),
    _thing(
        "symbol: lightning bolt, flash", "seen", "yellow",
        poly("bolt", "main", ".1,-1 -.55,.15 -.08,.15 -.3,1 .55,-.25 .08,-.25 .45,-1"),
    ),
    _thing(
        "toy: robot, android", "seen", "grey blue",
        box("antenna", "dark", -.04, -1, .04, -.7), oval("antenna", "second", 0, -.95, .1),
        box("head", "main", -.4, -.75, .4, -.15), box("body", "main", -.55, -.08, .55, .6),
        box("arm", "metal", -.85, -.05, -.6, .5), box("arm", "metal", .6, -.05, .85, .5),
        box("leg", "metal", -.4, .6, -.12, 1), box("leg", "metal", .12, .6, .4, 1),
        oval("eye", "flame", -.18, -.5, .11), oval("eye", "flame", .18, -.5, .11),
        box("mouth", "dark", -.2, -.32, .2, -.24), box("panel", "second", -.28, .1, .28, .42),
    ),
    _thing(
        "food: carrot", "seen", "orange",
        poly("leaf", "leaf", "-.05,-.4 -.4,-1 -.12,-.8 0,-1 .12,-.8 .4,-1 .05,-.4"),
        poly("root", "main", "-.35,-.45 .35,-.45 .28,.1 0,1 -.28,.1"), turns=True,
    ),
    _thing(
        "clothing: glasses/glasses, spectacles", "seen", "black red",
        oval("frame", "main", -.52, 0, .46, .4), oval("lens", "glass", -.52, 0, .33, .28),
        oval("frame", "main", .52, 0, .46, .4), oval("lens", "glass", .52, 0, .33, .28),
        box("bridge", "main", -.14, -.1, .14, .04),
    ),
    _thing(
        "plant: pine tree, fir", "seen", "green",
        box("trunk", "wood", -.12, .6, .12, 1),
        poly("crown", "main", "0,-1 .38,-.45 .2,-.45 .58,.1 .32,.1 .75,.7 -.75,.7 -.32,.1 -.58,.1"
             " -.2,-.45 -.38,-.45"),
    ),
    _thing(
        "animal: crab", "seen", "red orange",
        arc("claw", "main", -.68, -.45, .32, .14, -230, 40),
        arc("claw", "main", .68, -.45, .32, .14, -40, 230),
        poly("leg", "second", "-.5,.2 -1,.55 -.95,.65 -.4,.4"),
        poly("leg", "second", ".5,.2 1,.55 .95,.65 .4,.4"),
        poly("leg", "second", "-.4,.4 -.7,.9 -.6,.95 -.25,.5"),
        poly("leg", "second", ".4,.4 .7,.9 .6,.95 .25,.5"),
        oval("body", "main", 0, .2, .62, .42),
        oval("eye", "light", -.2, -.05, .12), oval("eye", "light", .2, -.05, .12),
        oval("eye", "dark", -.2, -.05, .06), oval("eye", "dark", .2, -.05, .06),
    ),
    _thing(
        "music: guitar", "seen", "brown red black",
        box("head", "dark", -.15, -1, .15, -.75), box("neck", "wood", -.08, -.8, .08, .1),
        oval("body", "main", 0, .2, .42, .32), oval("body", "main", 0, .62, .55, .38),
        oval("hole", "dark", 0, .35, .16), box("bridge", "dark", -.22, .7, .22, .78),
    ),
    _thing(
        "music: bell", "seen", "yellow grey",
        oval("ring", "main", 0, -.85, .16), oval("ring", "cut", 0, -.85, .07),
        oval("clapper", "dark", 0, .75, .2),
        poly("bell", "main", "-.18,-.72 .18,-.72 .5,-.3 .58,.35 .85,.68 -.85,.68 -.58,.35 -.5,-.3"),
        box("band", "second", -.57, .15, .57, .3),
    ),
    # --------------------------------------------------------- unseen: never in training scenes
    _thing(
        "vehicle: rocket, spaceship", "unseen", "white red grey",
        poly("flame", "flame", "-.25,.7 .25,.7 0,1"),
        poly("fin", "second", "-.3,.2 -.7,.8 -.3,.7"), poly("fin", "second", ".3,.2 .7,.8 .3,.7"),
        poly("body", "main", "-.32,.72 -.32,-.3 -.2,-.7 0,-1 .2,-.7 .32,-.3 .32,.72"),
        oval("porthole", "glass", 0, -.25, .17), turns=True,
    ),
    _thing(
        "building: windmill, mill", "unseen", "white red brown",
        poly("tower", "main", "-.28,-.25 .28,-.25 .48,1 -.48,1"),
        poly("blade", "wood", "-.08,-.2 -.68,-1 -.9,-.8 -.02,-.12"),
        poly("blade", "wood", ".08,-.2 .9,-.86 .7,-1 .02,-.25"),
        poly("blade", "wood", ".05,-.1 .9,.45 .72,.66 -.02,-.02"),
        poly("blade", "wood", "-.05,-.1 -.72,.66 -.9,.45 .0,-.2"),
        oval("hub", "dark", 0, -.15, .12), box("door", "dark", -.14, .6, .14, 1),
    ),
    _thing(
        "tool: gear, cogwheel", "unseen", "grey yellow",
        star("teeth", "main", 9, 1, .62), oval("disc", "main", 0, 0, .72),
        oval("disc", "cut", 0, 0, .32), turns=True,
    ),
    _thing(
        "clothing: crown", "unseen", "yellow grey",
        poly("crown", "main", "-.9,.6 -1,-.5 -.5,.0 0,-.75 .5,.0 1,-.5 .9,.6"),
        box("rim", "second", -.9, .45, .9, .75), oval("jewel", "second", 0, .1, .14),
        oval("jewel", "second", -.95, -.55, .12), oval("jewel", "second", .95, -.55, .12),
        oval("jewel", "second", 0, -.8, .12),
    ),
    _thing(
        "tool: anchor", "unseen", "grey black blue",
        oval("ring", "main", 0, -.8, .2), oval("ring", "cut", 0, -.8, .1),
        box("shank", "main", -.1, -.65, .1, .85), box("stock", "main", -.45, -.5, .45, -.32),
        arc("arm", "main", 0, .1, .88, .2, 105, 255),
        poly("fluke", "main", "-1,.5 -.85,-.15 -.5,.35"),
        poly("fluke", "main", "1,.5 .85,-.15 .5,.35"),
    ),
    _thing(
        "food: burger, hamburger", "unseen", "brown orange",
        oval("bun", "main", 0, -.15, .9, .65), box("bun", "cut", -1, -.1, 1, .6),
        box("salad", "leaf", -.95, -.1, .95, .06), box("patty", "dark", -.88, .06, .88, .3),
        box("cheese", "flame", -.92, .3, .92, .4),
        poly("bun", "main", "-.88,.4 .88,.4 .75,.7 -.75,.7"),
    ),
    _thing(
        "fruit: pineapple", "unseen", "yellow orange",
        poly("leaf", "leaf", "-.3,-.25 -.6,-.75 -.25,-.6 0,-1 .25,-.6 .6,-.75 .3,-.25"),
        oval("flesh", "main", 0, .35, .5, .64),
        poly("ridge", "dark", "-.45,.05 -.4,.0 .38,.78 .32,.82"),
        poly("ridge", "dark", ".45,.05 .4,.0 -.38,.78 -.32,.82"),
    ),
    _thing(
        "animal: octopus/octopuses, squid", "unseen", "purple pink red",
        *(oval("arm", "main", x, y, .14, .34) for x, y in
          ((-.72, .5), (-.45, .65), (-.15, .66), (.15, .66), (.45, .65), (.72, .5))),
        oval("head", "main", 0, -.25, .68, .7),
        oval("eye", "light", -.25, -.1, .15), oval("eye", "light", .25, -.1, .15),
        oval("eye", "dark", -.25, -.07, .07), oval("eye", "dark", .25, -.07, .07),
    ),
    _thing(
        "furniture: ladder, stepladder", "unseen", "brown yellow",
        box("rail", "main", -.5, -1, -.3, 1), box("rail", "main", .3, -1, .5, 1),
        *(box("rung", "main", -.4, y, .4, y + .14) for y in (-.8, -.42, -.04, .34, .72)),
    ),
    _thing(
        "music: drum", "unseen", "red blue",
        poly("stick", "wood", "-.95,-.95 -.85,-1 -.2,-.5 -.3,-.42"),
        poly("stick", "wood", ".95,-.95 .85,-1 .2,-.5 .3,-.42"),
        oval("shell", "main", 0, .62, .78, .26), box("shell", "main", -.78, -.35, .78, .62),
        oval("skin", "light", 0, -.35, .78, .24),
        poly("cord", "second", "-.78,.0 -.39,.62 0,.02 .39,.62 .78,.0 .78,.15 .39,.78 0,.18"
             " -.39,.78 -.78,.15"),
    ),
    _thing(
        "tool: magnet, horseshoe magnet", "unseen", "red blue",
        arc("yoke", "main", 0, -.1, .85, .42, -90, 90), box("yoke", "main", -.85, -.12, -.43, .5),
        box("yoke", "main", .43, -.12, .85, .5),
        box("pole", "metal", -.85, .5, -.43, .85), box("pole", "metal", .43, .5, .85, .85),
        turns=True,
    ),
    _thing(
        "clothing: sock, stocking", "unseen", "white red green",
        poly("leg", "main", "-.35,-1 .3,-1 .3,.2 .85,.55 .9,.9 .4,1 -.2,.75 -.38,.3"),
        poly("cuff", "second", "-.38,-1 .34,-1 .34,-.72 -.38,-.72"),
        poly("toe", "second", ".62,.4 .85,.55 .9,.9 .55,.97"),
    ),
    _thing(
        "symbol: target, bullseye", "unseen", "red blue",
        oval("ring", "main", 0, 0, .95), oval("ring", "light", 0, 0, .72),
        oval("ring", "main", 0, 0, .48), oval("ring", "light", 0, 0, .24),
    ),
    _thing(
        "furniture: candle", "unseen", "white red",
        oval("dish", "metal", 0, .82, .7, .16), box("wax", "main", -.27, -.3, .27, .82),
        oval("flame", "flame", 0, -.65, .15, .3), box("wick", "dark", -.03, -.42, .03, -.28),
    ),
    _thing(
        "toy: dumbbell, barbell", "unseen", "black blue",
        box("bar", "metal", -.7, -.1, .7, .1), box("weight", "main", -.75, -.55, -.45, .55),
        box("weight", "main", .45, -.55, .75, .55), box("weight", "second", -1, -.35, -.75, .35),
        box("weight", "second", .75, -.35, 1, .35), turns=True,
    ),
    _thing(
        "animal: caterpillar, worm", "unseen", "green yellow",
        *(box("foot", "dark", x - .05, .2, x + .05, .55) for x in (-.3, .05, .4, .75)),
        *(oval("body", "main", x, .1, .28) for x in (.72, .38)),
        *(oval("ring", "second", x, .1, .28) for x in (.05, -.28)),
        oval("head", "main", -.65, -.08, .34), oval("eye", "dark", -.76, -.14, .08),
        poly("feeler", "dark", "-.6,-.35 -.5,-.8 -.43,-.78 -.52,-.35"),
        poly("feeler", "dark", "-.75,-.35 -.8,-.8 -.73,-.82 -.67,-.35"),
    ),
)

BY_NAME = {thing.name: thing for thing in THINGS}



def frequency_weights() -> dict[str, int]:
    """How often each thing is drawn, as whole weights.

    Each group has a head and a tail: one in ``rank + 4``, so the most frequent thing of a group is
    ten times as frequent as its rarest.
    """
    weights = {}
    for group in GROUPS:
        members = [thing for thing in THINGS if thing.group == group]
        for rank, thing in enumerate(members):
            weights[thing.name] = round(100_000 / (4 + rank * 40 / len(members)))
    return weights
