"""The embedded lab: real Debian hosts on one machine, to rehearse on and to prove with."""
