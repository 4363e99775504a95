// The rules of a part of a picture, [left, top, width, height] in its pixels. Pure.
(() => {
  const { t } = globalThis.workbenchLanguage;
  const LEAST_PX = 4;  // a click that shook is no part

  // From one place to another, in any direction, brought into the picture; null for what is too small to be meant.
  const dragged = (from, to, sizes) => {
    const sides = [0, 1].map((axis) => {
      const ends = [from[axis], to[axis]].map((place) => Math.min(Math.max(Math.round(place), 0), sizes[axis]));
      return [Math.min(...ends), Math.abs(ends[0] - ends[1])];
    });
    return sides.some(([, length]) => length < LEAST_PX) ? null : [sides[0][0], sides[1][0], sides[0][1], sides[1][1]];
  };

  // Why it is no part of a picture of this size; "" where it is one.
  const problemOf = ([x, y, width, height], [whole, high]) => {
    if (![x, y, width, height].every(Number.isInteger)) return t("All four must be whole numbers of pixels.");
    if (width < 1 || height < 1) return t("Width and height must be at least 1.");
    if (x < 0 || y < 0 || x + width > whole || y + height > high) {
      return t("The part must lie inside of the picture, which has {width} × {height} pixels.", { width: whole, height: high });
    }
    return "";
  };

  globalThis.workbenchCropRules = { dragged, problemOf };
})();
