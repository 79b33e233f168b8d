#ifndef CLI_SUPERVISOR_H
#define CLI_SUPERVISOR_H

/*
 * Tell systemd, or whoever else started us and set NOTIFY_SOCKET, how it goes:
 * one datagram as sd_notify(3) sends it (Type=notify).  state: "READY=1",
 * "STOPPING=1" or NULL; status: what to show people, as is but for control
 * characters.  Without that variable, or when nobody listens, nothing happens.
 */
void supervisor_tell(const char *state, const char *status);

#endif
