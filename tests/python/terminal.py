"""Commands whose messages go to a terminal, and what a person sees there."""

import os
import pty
import re
import subprocess
import termios
import threading

from service import PATIENCE_SECONDS, ROOT, wait_until


class Terminal:
    """A command that writes its messages to a terminal of 160 columns. Left, it is over."""

    def __init__(self, command, environment):
        self._ours, theirs = pty.openpty()
        # One of no size is taken for a narrow one, where the end of a line is cut off.
        termios.tcsetwinsize(theirs, (24, 160))
        self._process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, env=environment | {"TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while True:
            try:
                self._seen += os.read(self._ours, 1 << 16)
            except OSError:
                # What Linux says where nobody writes any more.
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._ours)

    def seen(self):
        """All that was written so far, without what moves the cursor."""
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self._seen.decode(errors="replace"))

    def shows(self, pattern):
        """Whether that was to be seen at some time."""
        return re.search(pattern, self.seen())

    def wait_for(self, pattern):
        """Waits until that is to be seen."""
        return wait_until(lambda: self.shows(pattern), f"{pattern} in {self.seen()}")

    def wait(self):
        """Waits for the command's end; its exit status."""
        status = self._process.wait(PATIENCE_SECONDS)
        self._reader.join()
        return status
