"""Cron: the schedules, their next fires, and the treatment of late fires."""
