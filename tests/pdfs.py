"""PDF files, written by hand: what is on each page is known without asking the library that reads them."""

from __future__ import annotations

from collections.abc import Sequence

Colour = tuple[float, float, float]


def pdf(colours: Sequence[Colour], texts: Sequence[str] = (), size_pt: tuple[int, int] = (200, 100)) -> bytes:
    """A page for each colour (red, green, blue from 0 to 1): its left half has it, its right half is white."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(colours)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(colours)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    width, height = size_pt
    for i, (red, green, blue) in enumerate(colours):
        drawn = f"{red} {green} {blue} rg 0 0 {width // 2} {height} re f"
        if i < len(texts):
            drawn += f" BT 0 g /F1 8 Tf {width // 2 + 4} {height // 2} Td ({texts[i]}) Tj ET"
        box = f"/MediaBox [0 0 {width} {height}]"
        font = "/Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {box} {font} /Contents {5 + 2 * i} 0 R >>")
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    return _written(objects)


def _written(objects: Sequence[str], trailer: str = "") -> bytes:
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer}>>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + end.encode()


def locked() -> bytes:
    """Encrypted with a password that nobody knows (RC4, 40 bits)."""
    plain = ["<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [] /Count 0 >>"]
    secret = f"<< /Filter /Standard /V 1 /R 2 /O <{'ab' * 32}> /U <{'cd' * 32}> /P -4 >>"
    return _written([*plain, secret], "/Encrypt 3 0 R /ID [<00112233> <00112233>] ")
