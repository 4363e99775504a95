// Where the labels of marks stand on a picture, so that none covers another or leaves it. Pure: tests/page runs this
// file in Node. Lengths in pixels; a rectangle is {left, top, right, bottom}.
(() => {
  const RADIUS = 7;  // of a point's mark

  const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

  // Its corners beside the mark, the likeliest first: above a box, below it, within it; right of a point, left of it, above, below.
  const corners = ({ left, top, right, bottom, isPoint }, { width, height }) => {
    if (isPoint) {
      const x = left - width / 2, y = top - height / 2, far = RADIUS + 3;
      return [[left + far, y], [left - far - width, y], [x, top - far - height], [x, top + far]];
    }
    const rows = [top - height, bottom, top, bottom - height];
    return rows.flatMap((row) => [[left, row], [right - width, row]]);
  };

  const inside = ([x, y], { width, height }, size) => {
    const left = Math.max(0, Math.min(x, size.width - width));
    return y < 0 || y + height > size.height ? null : { left, top: y, right: left + width, bottom: y + height };
  };

  // marks: {left, top, right, bottom, isPoint}; labels: {width, height} of each; size: of the picture. Gives for each
  // label its rectangle, or null where there is no room for it.
  const placed = (marks, labels, size) => {
    const taken = [];
    const dots = marks.filter(({ isPoint }) => isPoint).map(({ left, top }) => (
      { left: left - RADIUS, top: top - RADIUS, right: left + RADIUS, bottom: top + RADIUS }));
    return labels.map((label, at) => {
      const fits = corners(marks[at], label).map((corner) => inside(corner, label, size))
        .filter((one) => one && !taken.some((other) => overlap(one, other)));
      const found = fits.find((one) => !dots.some((dot) => overlap(one, dot))) ?? fits[0] ?? null;
      if (found) taken.push(found);
      return found;
    });
  };

  globalThis.workbenchLabels = { placed, overlap };
})();
