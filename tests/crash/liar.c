// Stands between the program and the kernel. While the file named by LIAR_SYNC exists, syncs fail with EIO; while the
// file named by LIAR_FULL exists, writes to and growth of the store fail with ENOSPC. While the file named by
// LIAR_KEYS_FULL exists, writes to the files of the keys do; while the one named by LIAR_KEYS_READ_ONLY exists, whatever
// would change their directory fails with EROFS.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int told(const char *name) {
    const char *path = getenv(name);
    return path && access(path, F_OK) == 0;
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return 1;
}

static int is_store(int fd) {
    char path[PATH_MAX];
    return path_of(fd, path) && strstr(path, "store.redb") != NULL && strstr(path, "keys") == NULL;
}

static int among_keys(const char *path) { return strstr(path, "store.redb.keys/") != NULL; }

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (is_store(fd) && told("LIAR_SYNC")) { errno = EIO; return -1; }
    return real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (is_store(fd) && told("LIAR_SYNC")) { errno = EIO; return -1; }
    return real(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (is_store(fd) && told("LIAR_FULL")) { errno = ENOSPC; return -1; }
    return real(fd, data, n, offset);
}

int ftruncate64(int fd, off64_t length) {
    static int (*real)(int, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "ftruncate64");
    if (is_store(fd) && told("LIAR_FULL")) { errno = ENOSPC; return -1; }
    return real(fd, length);
}

ssize_t write(int fd, const void *data, size_t n) {
    static ssize_t (*real)(int, const void *, size_t);
    char path[PATH_MAX];
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (told("LIAR_KEYS_FULL") && path_of(fd, path) && among_keys(path)) { errno = ENOSPC; return -1; }
    return real(fd, data, n);
}

int open64(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (!real) real = dlsym(RTLD_NEXT, "open64");
    if (flags & (O_CREAT | O_WRONLY | O_RDWR) && among_keys(path) && told("LIAR_KEYS_READ_ONLY")) { errno = EROFS; return -1; }
    return real(path, flags, mode);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    if (among_keys(to) && told("LIAR_KEYS_READ_ONLY")) { errno = EROFS; return -1; }
    return real(from, to);
}

int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    if (among_keys(path) && told("LIAR_KEYS_READ_ONLY") && access(path, F_OK) == 0) { errno = EROFS; return -1; }
    return real(path);
}
