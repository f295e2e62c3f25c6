"""Wordings of questions, and the plain-text chat of stage 2."""

from __future__ import annotations

import numpy as np

NAME = (
    "What is this?",
    "What is in this image?",
    "What does this picture show?",
    "Name the object.",
    "What do you see?",
    "What is shown here?",
    "What is in the picture?",
    "Identify the object in the image.",
    "What is depicted in this image?",
    "Can you tell me what this is?",
    "What am I looking at?",
    "What does the image show?",
    "What emoji is this?",
    "Which emoji is shown?",
    "Name this emoji.",
    "What is it?",
    "What's this?",
    "Give the name of what is shown.",
    "What object is in the image?",
    "Tell me what is in the picture.",
    "What does this icon show?",
    "Label this image.",
)
DESCRIBE = (
    "Describe the image.",
    "Describe this picture.",
    "Please describe what you see.",
    "Can you describe the image?",
    "Write a sentence about this image.",
    "Explain what is in the picture.",
)
SHORT = "Answer the question using a single word or phrase."
KIND = (
    "What kind of thing is it?",
    "What type of thing is this?",
    "Which category does it belong to?",
    "What category is this?",
)
KEYWORDS = (
    "Which words go with it?",
    "Give some keywords for it.",
    "List keywords for this image.",
    "What is it associated with?",
)
COUNTRY = (
    "Which country's flag is this?",
    "What country does this flag belong to?",
    "Whose flag is this?",
    "Which country is this the flag of?",
)
CAPITAL = (
    "What is the capital of this country?",
    "What is its capital?",
    "Name the capital city.",
)
CONTINENT = (
    "On which continent is it?",
    "Which continent is this country on?",
    "What continent does this country belong to?",
)
YES_NO = (
    "Is this {}?",
    "Does the image show {}?",
    "Is it {}?",
    "Does this picture show {}?",
    "Would you call this {}?",
)
COLOUR_ART = ("What color is it?", "What colour is the icon?", "Which color is it drawn in?")
UNSURE = "I am not sure. I cannot see a clear object in this picture."
BLANK = "The picture looks blank."
NOISE = "The picture looks like random noise."
OUTSIDE = "It does not look like a drawing that I know. It may be a photograph or a texture."

CHAT: tuple[tuple[str, str], ...] = (
    ("Hello!", "Hello! How can I help you today?"),
    ("Hi", "Hi there! What would you like to know?"),
    ("Good morning!", "Good morning! How can I help you?"),
    ("How are you?", "I am doing well, thank you. How can I help you?"),
    ("Thank you!", "You are welcome!"),
    ("Thanks a lot.", "You are welcome. Is there anything else I can help with?"),
    ("Goodbye!", "Goodbye! Have a nice day."),
    ("Who are you?", "I am a small assistant that can look at pictures and answer questions."),
    (
        "What can you do?",
        "I can name emoji, icons, flags, shapes and colors in a picture, answer "
        "simple questions about them, and chat with you.",
    ),
    (
        "Can you see photographs?",
        "I was trained on drawings, icons and emoji, so I am often wrong about photographs.",
    ),
    ("What color is the sky on a clear day?", "The sky is blue on a clear day."),
    ("What color is grass?", "Grass is green."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("How many months are in a year?", "There are twelve months in a year."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("How many sides does a triangle have?", "A triangle has three sides."),
    ("How many sides does a hexagon have?", "A hexagon has six sides."),
    ("What do bees make?", "Bees make honey."),
    ("What do cows drink?", "Cows drink water."),
    ("Which animal says meow?", "A cat says meow."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What is the opposite of up?", "The opposite of up is down."),
    ("What is the opposite of left?", "The opposite of left is right."),
    ("What is water made of?", "Water is made of hydrogen and oxygen."),
    ("What planet do we live on?", "We live on Earth."),
    ("What is the largest planet in the solar system?", "The largest planet is Jupiter."),
    ("What is the closest star to Earth?", "The closest star to Earth is the Sun."),
    ("Who wrote Romeo and Juliet?", "William Shakespeare wrote Romeo and Juliet."),
    ("What is the boiling point of water?", "Water boils at 100 degrees Celsius at sea level."),
    ("What is the freezing point of water?", "Water freezes at 0 degrees Celsius."),
    (
        "What is an emoji?",
        "An emoji is a small picture that stands for a thing, an idea or a "
        "feeling in a text message.",
    ),
    ("What is the tallest animal?", "The tallest animal is the giraffe."),
    ("What is the fastest land animal?", "The fastest land animal is the cheetah."),
    ("Name three fruits.", "Apple, banana and orange."),
    ("Name three colors.", "Red, blue and green."),
    ("Name two musical instruments.", "Guitar and piano."),
    ("What do you use an umbrella for?", "You use an umbrella to stay dry in the rain."),
    ("What do you use a key for?", "You use a key to open a lock."),
    (
        "Write a short sentence about the sea.",
        "The sea is wide and blue, and its waves never rest.",
    ),
    (
        "Tell me a joke.",
        "Why did the scarecrow win an award? Because he was outstanding in his field.",
    ),
)


def each(text: str) -> frozenset[str]:
    """The names of a list that commas part."""
    return frozenset(text.split(","))


def pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of the wordings."""
    return options[int(rng.integers(len(options)))]


def name_question(rng: np.random.Generator) -> str:
    """A naming question, one of four times with LLaVA's request for a short answer."""
    question = pick(NAME, rng)
    return f"{question}\n{SHORT}" if rng.random() < 0.25 else question


def article(name: str) -> str:
    """``a`` or ``an`` before a name that is a plain noun phrase."""
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def listed(words: list[str]) -> str:
    """``a cat``, ``a cat and a dog``, ``a cat, a dog and a hat``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
