// The clip itself, in step with its sheet. What a browser cannot play is shown by the frames of the sheet, at their times.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, button, say, address } = window.workbenchDraw;
  const { seconds } = window.workbenchWords;
  const { frameAt } = window.workbenchPlayhead;
  const TICK_MS = 50;

  // at(time): the playhead is there now.
  const player = (at) => {
    const film = Object.assign(make("video"), { controls: true, muted: true, playsInline: true, preload: "auto" });
    const still = make("img"), seek = Object.assign(make("input"), { type: "range", min: 0, step: 0.01, value: 0 });
    const play = button("play", t("Play"), () => (timer ? pause() : start())), strip = make("div", "strip", play, seek);
    const words = make("p", "quiet where"), why = make("p", "quiet why");
    const node = make("div", "player", make("div", "screen", film, still, strip), make("div", "beside", words, why));
    let frames = [], times = [], length = 0, timer = 0, isFlip = false, time = 0;
    film.setAttribute("aria-label", t("The clip"));
    seek.setAttribute("aria-label", t("Playhead"));

    const tell = () => {
      const place = frameAt(times, time);
      say(words, place < 0 ? t("At {time}: before the first frame that the model gets.", { time: seconds(time) })
        : t("At {time}: the model has frame {number} of {count}, taken at {taken}.", { time: seconds(time), number: place + 1, count: frames.length, taken: seconds(frames[place].time) }));
      if (isFlip && frames.length) {
        const shown = frames[Math.max(0, place)];
        if (still.src !== shown.url) still.src = shown.url;
        still.alt = t("The frame at {time}", { time: seconds(shown.time) });
        seek.value = time;
        seek.setAttribute("aria-valuetext", seconds(time));
      }
      at(time);
    };
    const go = (where) => { time = where; tell(); };
    const pause = () => { clearInterval(timer); timer = 0; say(play, t("Play")); };
    const start = () => {
      let before = performance.now();
      if (time >= length) time = 0;
      say(play, t("Pause"));
      timer = setInterval(() => {
        const now = performance.now();
        go(Math.min(length, time + (now - before) / 1000));
        before = now;
        if (time >= length || !node.isConnected) pause();
      }, TICK_MS);
    };
    seek.addEventListener("input", () => { pause(); go(Number(seek.value)); });

    // The browser's own player tells four times a second; while it plays, every picture it shows.
    const follow = () => {
      if (!node.isConnected || isFlip) return;
      if (film.currentTime !== time) go(film.currentTime);
      if (!film.paused && !film.ended) requestAnimationFrame(follow);
    };
    for (const event of ["play", "timeupdate", "seeking", "seeked"]) film.addEventListener(event, follow);

    const flip = (reason) => {
      isFlip = true;
      node.classList.add("flip");
      film.removeAttribute("src");
      film.load();
      say(why, reason);
      tell();
    };
    const cannot = () => {
      if (!isFlip && film.hasAttribute("src")) flip(t("This browser cannot play this clip, so the frames of the sheet stand in for it. The model reads it all the same."));
    };
    film.addEventListener("error", cannot);
    film.addEventListener("loadedmetadata", () => { if (!film.videoWidth) cannot(); });  // it hears it, and sees nothing

    return {
      node,
      load: (clip) => {
        pause();
        [frames, times, length, time, isFlip] = [[], [], 0, 0, false];
        node.classList.remove("flip");
        still.removeAttribute("src");
        for (const one of [words, why]) say(one, "");
        if (/\.(gif|webp|a?png|avif)$/i.test(clip.name)) flip(t("A moving picture: it is shown by the frames that the model gets."));
        else film.src = address(clip.path);
      },
      show: (all, duration) => {
        frames = all;
        times = all.map((frame) => frame.time);
        length = Math.max(duration, all.at(-1).time);
        seek.max = length;
        tell();
      },
      seek: (where) => {
        if (isFlip) { pause(); go(where); }
        else film.currentTime = where;
      },
      stop: () => { pause(); film.pause(); },
    };
  };

  window.workbenchPlayer = { player };
})();
