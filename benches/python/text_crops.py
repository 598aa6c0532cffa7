"""Photographs with lines of text on them, for networks that read or find text.

Usage: text_crops.py FROM TO FONT.ttf
Draws on every image of the folders `calibration` and `evaluation` of FROM and writes them to the same folders of TO.
Words, places, sizes and colours are drawn by the file's name, so the same call gives the same images.
"""

import pathlib
import random
import string
import sys

from PIL import Image, ImageDraw, ImageFont

LINES = (2, 5)
SIZES = (14, 34)


def written_on(image, font, chance):
    draw = ImageDraw.Draw(image)
    top = chance.randint(0, 20)
    for _ in range(chance.randint(*LINES)):
        size = chance.randint(*SIZES)
        words = ("".join(chance.choices(string.ascii_letters + string.digits, k=chance.randint(3, 8))) for _ in range(2))
        dark = chance.random() < 0.5
        ground, ink = ((245, 245, 245), (20, 20, 20)) if dark else ((30, 30, 60), (250, 240, 200))
        text, left = " ".join(words), chance.randint(0, 40)
        letters = ImageFont.truetype(font, size)
        box = draw.textbbox((left, top), text, font=letters)
        if box[3] + 4 > image.height:
            break
        if chance.random() < 0.7:
            draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=ground)
        draw.text((left, top), text, font=letters, fill=ink)
        top = box[3] + chance.randint(6, 30)
    return image


def main():
    source, target, font = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    for folder in ("calibration", "evaluation"):
        (target / folder).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / folder).iterdir()):
            image = written_on(Image.open(path).convert("RGB"), font, random.Random(path.name))
            image.save(target / folder / f"{path.stem}.png")


main()
