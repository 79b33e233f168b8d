/*
 * The machine that a room pretends to be: where its files come from, how it
 * is walled off, and the messages its init understands.
 */
#ifndef ROOMD_VM_H
#define ROOMD_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum vm_kind {
	VM_DIR, /* home, tmp and workspace over the host's programs */
	VM_ROOTFS, /* a whole root file system */
	VM_HOST, /* no walls at all: --allow-unconfined */
};

#define VM_ENV_MAX 32

/* Fixed before the first process is forked, never changed after. */
struct vm_spec {
	enum vm_kind kind;
	bool busybox;
	bool userns; /* needs a user namespace */
	bool temporary; /* the data go away at the end */
	uid_t uid; /* of the commands, inside */
	char *scratch; /* a directory of our own, removed at the end */
	char *data; /* DIR, or the root file system */
	char *home_host;
	char *tmp_host;
	char *workspace_host;
	char *home; /* as the VM sees it */
	char *shell;
	const char *workdir; /* of commands; NULL: home */
	const char *without; /* tools that it lacks, with commas; or NULL */
	const char *env[VM_ENV_MAX + 1]; /* NAME=VALUE beside the usual ones */
	struct rlimit nofile; /* the limit for commands */
};

enum vm_op {
	VM_OP_RUN = 1, /* reply socket, output pipe, memfd: command, NUL */
	VM_OP_OPEN, /* reply socket; the path follows the header */
	VM_OP_KILL, /* the command of that id */
};

#define VM_FLAG_DROP_STDERR 1U

struct vm_msg {
	uint32_t op;
	uint32_t id;
	uint32_t flags;
};
#define VM_MSG_MAX (sizeof(struct vm_msg) + 16384)

struct vm_reply {
	int32_t value; /* wait status, or -errno of an open */
};

int vm_probe(bool userns);
int vm_unshare(const struct vm_spec *spec);
int vmroot_enter(const struct vm_spec *spec, const char **what);
void vminit_set_args(int argc, char **argv);
void vminit_main(const struct vm_spec *spec, int ctl) __attribute__((noreturn));

#endif
