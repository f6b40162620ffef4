// Loaded into the tool before the C library, makes files and the way to the daemon what they rarely
// are. Variables say which: SMALLOC_TEST_SLOW_DISK, microseconds that fsync takes besides;
// SMALLOC_TEST_SLOW_SEND, the same of each frame; SMALLOC_TEST_GROWING, a file that gets a block
// longer when a search for data has found none.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void rest(const char *variable) {
    const char *text = getenv(variable);
    long left = text ? atol(text) : 0;
    if (left <= 0) return;
    struct timespec time = {left / 1000000, left % 1000000 * 1000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {}
}

int fsync(int file) {
    rest("SMALLOC_TEST_SLOW_DISK");
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return next(file);
}

ssize_t sendmsg(int file, const struct msghdr *message, int flags) {
    rest("SMALLOC_TEST_SLOW_SEND");
    ssize_t (*next)(int, const struct msghdr *, int) =
        (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
    return next(file, message, flags);
}

ssize_t send(int file, const void *bytes, size_t size, int flags) {
    rest("SMALLOC_TEST_SLOW_SEND");
    ssize_t (*next)(int, const void *, size_t, int) =
        (ssize_t (*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
    return next(file, bytes, size, flags);
}

off_t lseek(int file, off_t offset, int whence) {
    off_t (*next)(int, off_t, int) = (off_t (*)(int, off_t, int))dlsym(RTLD_NEXT, "lseek");
    off_t found = next(file, offset, whence);
    const char *path = getenv("SMALLOC_TEST_GROWING");
    if (!path || whence != SEEK_DATA || found >= 0 || errno != ENXIO) return found;
    char block[65536];
    memset(block, 'x', sizeof block);
    int log = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (log >= 0 && write(log, block, sizeof block) != (ssize_t)sizeof block) abort();
    if (log >= 0) close(log);
    unsetenv("SMALLOC_TEST_GROWING");
    errno = ENXIO;
    return found;
}
