"""Access: who calls (principals and their credentials), what each may do (grants), and the record of it (audit)."""
