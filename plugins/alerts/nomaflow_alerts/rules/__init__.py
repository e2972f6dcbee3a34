"""Rules that open and close incidents: functions of an event, a policy and the file."""
