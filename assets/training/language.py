"""What may be asked, and the one right answer to it.

Every function gives ``Turn``s: a question as people type it and the exact sentence the model should
say. The forms are few and fixed, so that a test can compare whole answers.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace

from world import COLORS, MOTIONS, PLACES, SHAPES, Clip, Scene, Shape, box_of

NUMBERS = ("none", "one", "two", "three")
NOTHING = "I see no shapes I know."
NO_MEDIA = "I see no picture. Please add one and ask again."
ABOUT = "I am a tiny demo model. I can describe simple colored shapes in pictures and clips."
SKILLS = "I can name shapes and their colors, count them, say where they are, compare two pictures and say what moves in a clip."
UNKNOWN = "I am only a tiny demo model, so I cannot answer that. Please load a larger model."

ONE_WORD = (
    "Answer in one word.", "Answer in one word.", "Answer with one word.", "One word only.", "In one word.",
    "Answer in a single word.", "Just one word, please.", "Reply with one word.", "Use one word.",
)
DESCRIBE = (
    "What is in this image?", "Describe this image.", "What do you see?", "What is this?", "Describe the picture.",
    "What is in this picture?", "What's in this image?", "What is shown here?", "What can you see in the picture?",
    "Describe this image in one sentence.", "What does this image show?", "Tell me what you see.",
    "What shapes do you see?", "Which shapes are in the picture?", "Describe what you see.", "Describe the image in detail.",
    "What is in the image?", "Write a caption for this image.", "Explain this picture.", "What can you see?",
    "Can you describe this image?", "Look at this picture.", "Describe this photo.", "What is in this photo?", "What shapes are there?",
)
COMPARE = (
    "Compare these images.", "What differs?", "What is different?", "What is the difference between these images?",
    "Compare the two pictures.", "How do the images differ?", "What is the difference?", "Compare these pictures.",
    "What is the difference between the two images?", "Compare the images.", "Compare them.", "Describe the differences.",
    "Compare these two images.", "What changed between the images?", "How are they different?",
    "Describe these images.", "What is in these images?", "What do you see in these images?", "What are these?",
)
WATCH = (
    "What happens in this video?", "Describe this video.", "What is happening in this video?", "Describe the video.",
    "What do you see?", "What happens?", "Describe the motion.", "What happens in this clip?", "Describe this clip.",
    "What is in this video?", "What does the video show?", "Describe what happens.", "What is going on?", "What can you see?",
    "What moves in this video?", "Summarize this video.", "What is this?", "What happens in the video?", "Can you describe this video?",
)


@dataclass
class Turn:
    kind: str
    question: str
    answer: str
    word: str | None = None  # the answer in one word, where there is one
    about: tuple[str | None, str | None] | None = None  # (color, kind) that the question asks about, for teaching where to look
    which: int | None = None  # 0 or 1: it asks about the first or the second of two pictures
    lead: str = ""  # the question itself, where a pasted text follows it
    moment: int | None = None  # the pair of a clip's frames in which what is asked for happens, counted from 0
    ranks: tuple[int, ...] = ()  # the shapes whose boxes or points are the answer, counted from 1 in reading order


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def listing(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def name(s: Shape, size: bool = False) -> str:
    return article(f"{s.size} {s.color} {s.kind}" if size and s.size != "medium" else f"{s.color} {s.kind}")


def amount(n: int) -> str:
    return {0: "There are none.", 1: "There is one."}.get(n, f"There are {NUMBERS[min(n, 3)]}.")


def yes(flag: bool) -> tuple[str, str]:
    return ("Yes.", "Yes.") if flag else ("No.", "No.")


# ------------------------------------------------------------------------------------------------ one picture
def describe(scene: Scene | None) -> str:
    if scene is None or not scene.shapes:
        return NOTHING
    alone = len(scene.shapes) == 1  # the size is said of a single shape; among several it has to be asked for
    return sentence(listing([f"{name(s, size=alone)} {PLACES[s.cell]}" for s in scene.shapes]))


def short_place(cell: int) -> str:
    return PLACES[cell].removeprefix("at the ").removeprefix("in the ").capitalize() + "."


IMAGE_KINDS = {
    "describe": 3.2, "count": 1.2, "count kind": 2.6, "count color": 0.8, "color": 2.2, "shape": 1.8, "where": 2.2,
    "where color": 0.8, "size": 0.7, "exists": 2.0, "exists kind": 1.0, "is it": 0.8, "background": 0.3, "anything": 0.25, "box": 4.5, "point": 1.5,
}


LOOKUPS = {"color": 2.0, "where": 2.0, "shape": 1.6, "where color": 0.8, "exists": 1.6, "exists kind": 1.0, "count kind": 3.0, "count color": 0.9, "is it": 0.7, "size": 0.4}


def ask_image(rng: random.Random, scene: Scene | None, kind: str | None = None, which: str = "", kinds: dict = IMAGE_KINDS) -> Turn:
    """A question about this picture. ``which`` is "first" or "second" when two pictures are in the chat."""
    while True:
        k = kind or rng.choices(list(kinds), list(kinds.values()))[0]
        turn = _ask_image(rng, scene, k)
        if turn is not None:
            break
        kind = None if kind is None else "describe"
    if which:
        turn.which = ("first", "second").index(which)
        if turn.kind in ("describe", "anything"):
            turn.question = rng.choice(("What is in the {} image?", "Describe the {} image.", "What is in the {} picture?", "Describe the {} picture.", "What does the {} image show?")).format(which)
        else:
            turn.question = turn.question.rstrip("?.").removesuffix(" in this image") + f" in the {which} {rng.choice(('image', 'image', 'picture'))}?"
    return turn


def _ask_image(rng: random.Random, scene: Scene | None, k: str) -> Turn | None:
    shapes = scene.shapes if scene else []
    count_of = lambda kind: sum(s.kind == kind for s in shapes)
    count_in = lambda color: sum(s.color == color for s in shapes)
    some_kind = lambda p: rng.choice(shapes).kind if shapes and rng.random() < p else rng.choice(SHAPES)
    some_color = lambda p: rng.choice(shapes).color if shapes and rng.random() < p else rng.choice(COLORS)
    if k == "describe":
        return Turn(k, rng.choice(DESCRIBE), describe(scene), sentence(shapes[0].kind) if len(shapes) == 1 else None)
    if k == "anything":  # a text that is no question of ours: say what is there
        return Turn(k, rng.choice(("", "", unknown_text(rng))), describe(scene))
    if k == "count":
        q = rng.choice(("How many shapes are there?", "How many shapes do you see?", "Count the shapes.", "How many shapes are in this image?", "How many objects are there?"))
        return Turn(k, q, amount(len(shapes)), sentence(NUMBERS[len(shapes)]))
    if k == "count kind":
        kind = some_kind(0.65)
        q = rng.choice(("How many {}s are there?", "How many {}s do you see?", "Count the {}s.", "How many {}s are in this image?")).format(kind)
        return Turn(k, q, amount(count_of(kind)), sentence(NUMBERS[count_of(kind)]), (None, kind))
    if k == "count color":
        color = some_color(0.65)
        q = rng.choice(("How many {} shapes are there?", "How many shapes are {}?", "How many {} shapes do you see?")).format(color)
        return Turn(k, q, amount(count_in(color)), sentence(NUMBERS[count_in(color)]), (color, None))
    if k in ("color", "where", "size"):
        kind = some_kind(0.93)
        if count_of(kind) > 1:
            return None
        q = {
            "color": ("What color is the {}?", "What color is the {}?", "What is the color of the {}?", "Which color is the {}?", "What color does the {} have?", "Tell me the color of the {}."),
            "where": ("Where is the {}?", "Where is the {}?", "What is the position of the {}?", "Where do you see the {}?", "In which part of the image is the {}?"),
            "size": ("How big is the {}?", "How large is the {}?", "What size is the {}?", "What is the size of the {}?"),
        }[k]
        if len(shapes) == 1 and rng.random() < 0.25:
            q = {"color": ("What color is it?", "What color is the shape?"), "where": ("Where is it?", "Where is the shape?"), "size": ("How big is it?", "How big is the shape?")}[k]
            kind = shapes[0].kind
        q = rng.choice(q).format(kind)
        found = [s for s in shapes if s.kind == kind]
        if not found:
            return Turn(k, q, f"I see no {kind}.", "None.", (None, kind))
        s = found[0]
        return {
            "color": lambda: Turn(k, q, f"It is {s.color}.", sentence(s.color), (None, kind)),
            "where": lambda: Turn(k, q, f"It is {PLACES[s.cell]}.", short_place(s.cell), (None, kind)),
            "size": lambda: Turn(k, q, f"It is {s.size}.", sentence(s.size), (None, kind)),
        }[k]()
    if k in ("shape", "where color"):
        if k == "shape" and len(shapes) == 1 and rng.random() < 0.45:
            q = rng.choice(("What shape is it?", "What shape is this?", "Which shape is it?", "What shape do you see?", "What shape is in this image?"))
            return Turn(k, q, f"It is {article(shapes[0].kind)}.", sentence(shapes[0].kind))
        color = some_color(0.93)
        if count_in(color) > 1:
            return None
        if k == "shape":
            q = ("What shape is {}?", "Which shape is {}?", "What is the shape of the {} one?", "What is {}?", "What is the {} shape?")
        else:
            q = ("Where is the {} shape?", "Where is the {} one?")
        q = rng.choice(q).format(color)
        found = [s for s in shapes if s.color == color]
        if not found:
            return Turn(k, q, f"I see no {color} shape.", "None.", (color, None))
        if k == "shape":
            return Turn(k, q, f"It is {article(found[0].kind)}.", sentence(found[0].kind), (color, None))
        return Turn(k, q, f"It is {PLACES[found[0].cell]}.", short_place(found[0].cell), (color, None))
    if k == "exists":
        color, kind = some_color(0.3), some_kind(0.3)
        if shapes and rng.random() < 0.75:
            s = rng.choice(shapes)
            color, kind = rng.choice(((s.color, s.kind), (s.color, s.kind), (s.color, kind), (color, s.kind)))
            if len(shapes) > 1 and rng.random() < 0.25:  # parts of two shapes: the hard no
                color, kind = s.color, rng.choice(shapes).kind
        q = rng.choice(("Is there {}?", "Do you see {}?", "Is there {} in this image?", "Can you see {}?")).format(article(f"{color} {kind}"))
        return Turn(k, q, *yes(any((s.color, s.kind) == (color, kind) for s in shapes)), (color, kind))
    if k == "exists kind":
        if rng.random() < 0.6:
            kind = some_kind(0.5)
            return Turn(k, rng.choice(("Is there a {}?", "Do you see a {}?", "Is there a {} in this image?")).format(kind), *yes(count_of(kind) > 0), (None, kind))
        color = some_color(0.5)
        return Turn(k, rng.choice(("Is there anything {}?", "Is there a {} shape?", "Do you see something {}?")).format(color), *yes(count_in(color) > 0), (color, None))
    if k == "is it":
        if not shapes:
            return None
        s = rng.choice(shapes)
        if count_of(s.kind) > 1:
            return None
        color = s.color if rng.random() < 0.5 else some_color(0.4)
        return Turn(k, f"Is the {s.kind} {color}?", *yes(color == s.color), (None, s.kind))
    if k in ("box", "point"):
        return ask_box(rng, scene, k)
    if k == "background":
        if scene is None or scene.background is None or not shapes:
            return None
        q = rng.choice(("What color is the background?", "What is the background color?", "Which color is the background?"))
        return Turn(k, q, f"It is {scene.background}.", sentence(scene.background))
    raise ValueError(k)


BOX = (
    "Where is {}? Answer with a box.", "Where is {}? Answer with a box.", "Give the bounding box of {}.", "Locate {}.", "Draw a box around {}.",
    "Detect {}.", "Find {} and return its bounding box.", "Where is {}? Answer with a bounding box in JSON.", "Show me {} as a box.",
    "Locate {}, output the bbox coordinates in JSON format.", "Locate {}, report the bbox coordinates in JSON format.", "Put a box around {}.",
    "What is the bounding box of {}?", "Where is {}? Give the box.", "Box {}.", "Find {}.",
)
POINT = (
    "Point at {}.", "Point at {}.", "Point to {}.", "Where is {}? Answer with a point.", "Give the point of {}.", "Point out {}.",
    "Locate {} with a point.", "Click on {}.", "Point to {}, report the point coordinates in JSON format.", "Where is {}? Give a point.",
)
EVERY = ("all shapes", "all shapes", "every shape", "all the shapes", "each shape", "all objects", "the shapes")


def thousandths(value: float) -> int:
    """Qwen3-VL's coordinates are 0 to 1000 in either direction; this model rounds them to tens."""
    return 10 * round(100 * value)


def boxes(scene: Scene, shapes: list[Shape], k: str) -> str:
    """The shapes' boxes (left, top, right, bottom) or, for "point", centres, as Qwen3-VL writes them."""
    out = []
    for s in shapes:
        place = [thousandths(v) for v in (box_of(scene, s) if k == "box" else (s.x, s.y))]
        out.append({"bbox_2d" if k == "box" else "point_2d": place, "label": f"{s.color} {s.kind}"})
    return json.dumps(out)


def ask_box(rng: random.Random, scene: Scene | None, k: str) -> Turn:
    shapes = scene.shapes if scene else []
    forms = BOX if k == "box" else POINT
    roll = rng.random()
    if roll < 0.3 or (len(shapes) == 1 and roll < 0.4):
        noun = rng.choice(EVERY)
        if len(shapes) == 1 and rng.random() < 0.6:
            noun = rng.choice(("it", "the shape"))
        answer = boxes(scene, shapes, k) if shapes else NOTHING
        return Turn(k, rng.choice(forms).format(noun), answer, ranks=tuple(range(1, len(shapes) + 1)))
    s = rng.choice(shapes) if shapes and rng.random() < 0.92 else None
    color, kind = (s.color, s.kind) if s else (rng.choice(COLORS), rng.choice(SHAPES))
    form = rng.choice(("kind", "kind", "pair", "color", "kinds"))
    if form in ("kind", "kinds"):
        color = None
    if form == "color":
        kind = None
    found = [i for i, t in enumerate(shapes) if color in (None, t.color) and kind in (None, t.kind)]
    if len(found) > 1 and form == "kind":
        form = "kinds"
    if len(found) > 1 and form == "color":
        noun = f"all {color} shapes"
    elif form == "kinds":
        noun = rng.choice((f"all {kind}s", f"the {kind}s", f"every {kind}"))
    else:
        noun = "the " + " ".join(w for w in (color, kind or "shape") if w)
    q = rng.choice(forms).format(noun)
    named = " ".join(w for w in (color, kind or "shape") if w)
    answer = boxes(scene, [shapes[i] for i in found], k) if found else f"I see no {named}."
    return Turn(k, q, answer, None, (color, kind), ranks=tuple(i + 1 for i in found))


# ------------------------------------------------------------------------------------------------ two pictures
def compare(a: Scene, b: Scene) -> str:
    """What both pictures show and, for two single shapes, what differs."""
    one, two = listing([name(s) for s in a.shapes]), listing([name(s) for s in b.shapes])
    text = f"The first image shows {one}, the second {two}."
    if len(a.shapes) == len(b.shapes) == 1:
        s, t = a.shapes[0], b.shapes[0]
        differ = {(True, True): "The color and the shape differ.", (True, False): "The color differs.", (False, True): "The shape differs.", (False, False): "They look alike."}
        text += " " + differ[s.color != t.color, s.kind != t.kind]
    return text


def ask_pair(rng: random.Random, a: Scene, b: Scene) -> Turn:
    roll = rng.random()
    if roll < 0.62:
        return Turn("compare", rng.choice(COMPARE), compare(a, b))
    if roll < 0.88:
        which = rng.choice(("first", "second"))
        return ask_image(rng, a if which == "first" else b, rng.choice(("describe", "describe", "color", "shape", "where", "count", "exists")), which)
    if roll < 0.97:
        s = rng.choice([s for scene in (a, b) for s in scene.shapes])
        phrase, test = rng.choice((
            (article(s.kind), lambda t: t.kind == s.kind),
            (f"{article(s.color)} shape", lambda t: t.color == s.color),
            (name(s), lambda t: (t.kind, t.color) == (s.kind, s.color)),
        ))
        in_a, in_b = any(map(test, a.shapes)), any(map(test, b.shapes))
        answer = "Both." if in_a and in_b else "The first." if in_a else "The second."
        return Turn("which", rng.choice(("Which image shows {}?", "Which picture has {}?", "Which image has {}?")).format(phrase), answer, answer.removeprefix("The ").capitalize())
    return Turn("images", "How many images are there?", "There are two.", "Two.")


# ------------------------------------------------------------------------------------------------ clips
MOVES = {
    "left": "moves to the left", "right": "moves to the right", "up": "moves up", "down": "moves down",
    "grow": "grows", "shrink": "shrinks", "still": "stays still",
}


def watch(clip: Clip | None) -> str:
    if clip is None:
        return NOTHING
    if clip.motion == "color":
        return sentence(f"{article(clip.start.kind)} changes color from {clip.start.color} to {clip.end.color}")
    return sentence(f"{name(clip.start)} {MOVES[clip.motion]}")


CLIP_KINDS = {"watch": 3.0, "motion": 3.0, "color": 1.0, "shape": 1.0, "count": 0.4, "who": 0.5, "does it": 1.0, "exists": 0.5, "anything": 0.3}


def ask_clip(rng: random.Random, clip: Clip | None, kind: str | None = None, times: list[float] | None = None, count: int = 0) -> Turn:
    """``times``: the seconds printed before each pair of its ``count`` frames; without them nothing is asked about moments."""
    k = kind or rng.choices(list(CLIP_KINDS), list(CLIP_KINDS.values()))[0]
    if clip is not None and times and kind is None and rng.random() < (0.5 if clip.sudden else 0.04):
        return ask_moment(rng, clip, times, count)
    if k == "anything" or clip is None:
        return Turn("anything" if clip else "other clip", rng.choice((rng.choice(WATCH), "", unknown_text(rng))) if clip is None else rng.choice(("", "What is in this image?", unknown_text(rng))), watch(clip))
    shape, moving = clip.start.kind, clip.motion in ("left", "right", "up", "down")
    if k == "watch":
        return Turn(k, rng.choice(WATCH), watch(clip))
    if k == "motion":
        q = rng.choice((
            "Which way does it move?", "Which way does the {} move?", "In which direction does the {} move?", "What direction does it move?",
            "How does it move?", "How does the {} move?", "Where does it move?", "Where does the {} go?", "What does the {} do?", "What changes?",
            "What is the direction of the motion?", "Where is it going?", "Where to?",
        )).format(shape)
        if clip.motion == "color":
            return Turn(k, q, f"It changes color from {clip.start.color} to {clip.end.color}.", "Color.")
        word = {"grow": "Grows.", "shrink": "Shrinks.", "still": "Still."}.get(clip.motion) or sentence(clip.motion)
        return Turn(k, q, f"It {MOVES[clip.motion]}.", word)
    if k == "color":
        q = rng.choice(("What color is the {}?", "What color is it?", "What is the color of the {}?")).format(shape)
        if clip.motion == "color":
            return Turn(k, q, f"It changes color from {clip.start.color} to {clip.end.color}.")
        return Turn(k, q, f"It is {clip.start.color}.", sentence(clip.start.color))
    if k == "shape":
        return Turn(k, rng.choice(("What shape is it?", "What shape is in this video?", "Which shape is it?", "What shape do you see?")), f"It is {article(shape)}.", sentence(shape))
    if k == "who" and moving:
        return Turn(k, rng.choice(("What moves?", "What is moving?", "Which shape moves?")), sentence(name(clip.start)), sentence(shape))
    if k == "does it":
        if rng.random() < 0.4:
            return Turn(k, rng.choice(("Does it move?", "Is it moving?", "Does the {} move?", "Is anything moving?")).format(shape), *yes(moving))
        asked = clip.motion if moving and rng.random() < 0.5 else rng.choice(("left", "right", "up", "down"))
        return Turn(k, f"Does {rng.choice(('it', 'the ' + shape))} move {asked}?", *yes(asked == clip.motion))
    if k == "exists":
        kind = shape if rng.random() < 0.5 else rng.choice(SHAPES)
        return Turn(k, rng.choice(("Is there a {}?", "Do you see a {}?")).format(kind), *yes(kind == shape))
    return Turn("count", rng.choice(("How many shapes are there?", "How many shapes do you see?")), amount(1), "One.")


def ask_moment(rng: random.Random, clip: Clip, times: list[float], count: int) -> Turn:
    """When a color comes (the seconds of the first pair of frames that shows it), or where the shape is at some time."""
    shape, last = clip.start.kind, max(1, count - 1)
    if clip.sudden or (clip.motion != "color" and (count < 6 or rng.random() < 0.35)):
        color = clip.end.color if clip.sudden and rng.random() < 0.85 else rng.choice([c for c in COLORS if c != clip.start.color])
        it = rng.choice(("it", "it", f"the {shape}"))
        happens = clip.sudden and color == clip.end.color
        q = rng.choice((f"When does {it} turn {color}?", f"When does {it} turn {color}?", f"When does {it} become {color}?", f"At what time does {it} turn {color}?"))
        if clip.sudden and rng.random() < 0.3:
            happens, q = True, rng.choice((f"When does {it} change color?", "When does the color change?", f"At what time does {it} change color?"))
        if not happens:
            return Turn("when", q, f"It does not turn {color}.")
        first = next(i for i in range(count) if i / last > clip.moment)
        return Turn("when", q, f"At {times[first // 2]:.1f} seconds.", moment=first // 2)
    if count < 6:
        return ask_clip(rng, clip)
    pair = rng.randrange(len(times))
    scene = clip.at(min(1.0, (2 * pair + 0.5) / last))
    q = rng.choice(("Where is {} at {:.1f} seconds? Answer with a box.", "Give the bounding box of {} at {:.1f} seconds.", "Locate {} at {:.1f} seconds."))
    return Turn("box at", q.format(f"the {shape}", times[pair]), boxes(scene, scene.shapes, "box"))


# ------------------------------------------------------------------------------------------------ no medium
TALK = (
    (("Hello", "Hi", "Hey", "Hello!", "Hi there!", "Good morning", "Hello there", "Good evening!"), "Hello! " + ABOUT),
    (("Who are you?", "What are you?", "What is this model?", "Tell me about yourself.", "Introduce yourself.", "What model is this?", "What model are you?", "What is your name?"), ABOUT),
    (("What can you do?", "Help", "How can you help me?", "What do you know?", "Help me.", "What are you able to do?"), SKILLS),
    (("How are you?", "How are you doing?", "How are you today?"), "I am fine, thank you."),
    (("Thanks", "Thank you", "Thank you!", "Thanks!", "Thanks a lot!"), "You are welcome."),
    (("Goodbye", "Bye", "See you later", "Bye!", "Good night"), "Goodbye!"),
    (("Which shapes do you know?", "What shapes do you know?", "Which shapes can you see?"), "I know circles, squares, triangles and stars."),
    (("Which colors do you know?", "What colors do you know?", "Which colors can you see?"), "I know red, orange, yellow, green, blue and purple."),
    (("How big are you?", "How many parameters do you have?", "How large are you?"), "I have fewer than three million parameters."),
)
SYSTEMS = (
    "You are a helpful assistant.", "You are a helpful assistant.", "You are a helpful assistant.", "You are a friendly assistant. Answer briefly.",
    "Answer in one sentence.", "You are a vision assistant.", "Be concise.", "You are a helpful and harmless assistant that answers questions about images.",
    "You describe pictures and clips for a test suite. Be exact.", "Answer the user's questions.",
)
WORDS = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which you were her all she there would their we him "
    "been has when who will more no if out so said what up its about into than them can only other new some could time these two may then do first any my now such "
    "like our over man me even most made after also did many before must through back years where much your way well down should because each just those people how "
    "too little state good very make world still own see men work long get here between both life being under never day same another know while last might us great "
    "old year off come since against go came right used take three"
).split()
NOUNS = (
    "poem story recipe python function code email capital France weather president history math homework essay song list book movie planet number sum joke language "
    "translation summary letter plan idea name city country market science physics river car dog cat house computer phone moon war train money music game team"
).split()
VERBS = "write explain tell give make find translate summarize create solve compute list show define name plan fix debug review sort convert".split()
FOREIGN = ("Pourquoi ?", "¿Qué hora es?", "Was ist das für ein Modell?", "你好", "こんにちは", "Привет", "def f(x): return x", "1+1=", "2 + 2", "asdf", "test", "ok", "?", "...", "SELECT * FROM t;", "{\"a\": 1}", "🙂")


def unknown_text(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.4:
        text = f"{rng.choice(VERBS)} {rng.choice(('me a', 'the', 'a short', 'some', 'an', 'my', 'this'))} {rng.choice(NOUNS)} {rng.choice(('about', 'of', 'for', 'with', 'in'))} {rng.choice(NOUNS)}"
    elif roll < 0.65:
        text = f"{rng.choice(('what is the', 'why is the', 'how do I', 'who is the', 'when was the', 'where is the', 'how many', 'can you'))} {rng.choice(NOUNS)} {rng.choice(('of', 'for', 'in', 'and'))} {rng.choice(NOUNS)}"
    elif roll < 0.88:
        text = " ".join(rng.choice(WORDS + NOUNS) for _ in range(rng.randint(2, 14)))
    elif roll < 0.94:
        text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz 0123456789,.") for _ in range(rng.randint(3, 25))).strip() or "x"
    else:
        return rng.choice(FOREIGN)
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    return text + rng.choice(("", "?", "."))


def ask_talk(rng: random.Random, media: bool = False) -> Turn:
    """Small talk, or a question about media that are not there (unless ``media``), or what nobody here can answer."""
    roll = rng.random()
    if media and 0.5 <= roll < 0.68:
        roll += 0.2
    if roll < 0.5:
        questions, answer = rng.choice(TALK)
        return Turn("talk", rng.choice(questions), answer)
    if roll < 0.68:
        kind = rng.choice(SHAPES)
        q = rng.choice((rng.choice(DESCRIBE[:12]), rng.choice(WATCH[:6]), rng.choice(COMPARE[:6]), f"What color is the {kind}?", f"Where is the {kind}?", "How many shapes are there?", f"Is there a {kind}?", "Which way does it move?", "What shape is it?"))
        return Turn("no media", q, NO_MEDIA)
    return Turn("unknown", unknown_text(rng), UNKNOWN)


# ------------------------------------------------------------------------------------------------ how people type
def as_typed(rng: random.Random, turn: Turn, one_word: float = 0.12) -> Turn:
    """The same turn in another spelling: colour, lower case, no mark, "please", or in one word."""
    q, answer = turn.question, turn.answer
    if turn.kind in ("anything", "unknown", "other clip", "talk"):
        if turn.kind == "talk" and rng.random() < 0.3:
            q = q.lower() if rng.random() < 0.6 else q.rstrip("?.!")
        return replace(turn, question=q)
    if rng.random() < 0.4:
        q = q.replace("color", "colour")
    if rng.random() < 0.1:
        q = q.lower()
    if rng.random() < 0.08:
        q = q.rstrip("?.")
    if rng.random() < 0.04 and q:
        q = rng.choice(("Please: ", "Please, ", "Hello! ", "Now: ", "And ")) + q
    elif rng.random() < 0.03:
        q = q + rng.choice((" Please.", " Thanks.", " Be brief.", " Answer in one sentence."))
    if turn.word and rng.random() < one_word:
        q, answer = f"{q} {rng.choice(ONE_WORD)}", turn.word
    return replace(turn, question=q, answer=answer)
